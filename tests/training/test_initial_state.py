"""A run starts from the weights of another run, or of an export of it."""

import jax
import numpy as np
import pytest

import clipin_jax
from clipin_jax.config import load_config
from clipin_jax.core.parameter_paths import flatten
from clipin_jax.errors import ClipinError
from clipin_jax.inference.open_model import open_model
from clipin_jax.runs.build import build_experiment
from clipin_jax.training.initial_state import initial_state
from clipin_jax.training.loop import train

SMALL = (
    "total_steps=1", "evals={}", "log.tensorboard=False", "batch_size=16",
    "model.image.width=32", "model.text.width=32",
)  # fmt: skip


def small_config(*overrides, clipin=False):
    name = "clip:clipin,runlocal" if clipin else "clip:runlocal"
    return load_config(name, (*SMALL, *overrides))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    train(small_config(), folder)
    return folder


def started(source, *overrides, **options):
    config = small_config(f"init_from={source}", *overrides, **options)
    experiment = build_experiment(config)
    with jax.set_mesh(experiment.mesh):
        return initial_state(experiment, lambda line: None)


@pytest.mark.parametrize("step", ["", "@1"])
def test_all_weights_are_those_of_the_run(run, step):
    state, expected = started(f"{run}{step}"), open_model(run).state
    ours, theirs = flatten(state.params), flatten(expected.variables["params"])
    assert ours.keys() == theirs.keys()
    for path, value in ours.items():
        np.testing.assert_array_equal(value, theirs[path], err_msg=path)
    assert int(state.step) == 0


def test_scanned_layers_take_those_of_a_run_without(run):
    state = started(run, "model.scan_layers=True")
    theirs = flatten(open_model(run).state.variables["params"])
    blocks = flatten(state.params)["towers/text/transformer/blocks/mlp_in/kernel"]
    for layer, kernel in enumerate(blocks):
        path = f"towers/text/transformer/blocks_{layer}/mlp_in/kernel"
        np.testing.assert_array_equal(kernel, theirs[path])


def test_clipin_is_plugged_into_a_trained_host(run):
    state = started(run, clipin=True)
    theirs = flatten(open_model(run).state.variables["params"])
    path = "towers/image/patch_embed/kernel"
    for params in (state.params, state.target_params):
        np.testing.assert_array_equal(flatten(params)[path], theirs[path])


@pytest.mark.parametrize(
    ("source", "override", "message"),
    [
        ("{run}", "model.text.activation=relu", "model.text.activation is 'relu'"),
        ("{run}@7", "seed=0", "no checkpoint of step 7"),
        ("{run}/nothing", "seed=0", "nothing"),
    ],
)
def test_wrong_sources_are_one_line(run, source, override, message):
    with pytest.raises(ClipinError, match=message) as error:
        started(source.format(run=run), override)
    assert "\n" not in str(error.value)


def test_an_export_in_our_format_is_loaded(run, tmp_path):
    from clipin_jax.commands.main import main

    out = tmp_path / "export"
    assert main(["export", str(run), str(out), "--to", "safetensors"]) == 0
    texts = ["a red star", "two dogs"]
    expected = clipin_jax.load(run).encode_text(texts)
    np.testing.assert_array_equal(clipin_jax.load(out).encode_text(texts), expected)
