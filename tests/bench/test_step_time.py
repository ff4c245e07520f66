"""The step-time benchmark: it runs, compares equal models, and counts correctly."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.config import load_config, with_defaults
from clipin_jax.core.step import make_train_step
from clipin_jax.runs.build import build_experiment
from clipin_jax.study.timed_step import random_state
from tests.support.tiny import tiny_batch, tiny_config

BASE = "clip:data=unused,variant=B/16"
BASE_CLIPIN = "clip:clipin,data=unused,variant=B/16"


@pytest.mark.slow
def test_the_last_line_is_one_json_object(bench, capsys):
    bench("step_time").main(["--tiny", "--device", "cpu", "--rounds", "2"])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["rounds"] == 2 and result["batch_size"] == 16
    for name in ("clip", "clipin", "plain"):
        for figure in ("ms", "images_per_second", "gflops", "peak_mib"):
            assert result[f"{name}_{figure}"] > 0
    assert 0.1 < result["clipin_over_clip"] < 100
    assert 0.01 < result["plain_over_clip"] < 100
    assert result["clipin_peak_mib"] > result["clip_peak_mib"]


def test_the_plain_clip_equals_the_package(bench):
    plain_clip = bench("plain_clip")
    config = tiny_config("model.image.depth=1", "model.text.depth=1", clipin=False)
    batch = tiny_batch(config)
    run = build_experiment(config, jax.devices()[:1])
    state = random_state(run.abstract_state)
    model = plain_clip.PlainClip(with_defaults(config).model)
    view = batch["view1"]["image"], batch["view1"]["text"]
    params = plain_params(state.params)
    expected = jax.eval_shape(model.init, jax.random.key(0), *view)["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, expected)
    apply = jax.jit(run.learner.apply, static_argnames="mutable")
    targets = {"view1": {}}
    loss, _ = apply(state.variables, batch, targets, run.hyper(0), mutable=False)
    plain_loss = jax.jit(model.apply)({"params": params}, *view)
    np.testing.assert_allclose(plain_loss, loss, rtol=1e-5)


def plain_params(params):
    """Parameters of a one-layer CLIP under the names of the plain one."""
    towers = params["towers"]
    image, text = plain_tower(towers["image"]), plain_tower(towers["text"])
    kernel = image["patch_embed"]["kernel"]
    size = round((kernel.shape[0] // 3) ** 0.5)
    image["patch_embed"]["kernel"] = kernel.reshape(size, size, 3, -1)
    return {
        "image": image,
        "text": text,
        "image_projection": towers["image_projection"],
        "text_projection": towers["text_projection"],
        **params["objectives_contrastive"],
    }


def plain_tower(params):
    params = jax.tree.map(lambda x: x, params)  # a copy of the dicts
    [block] = params.pop("transformer").values()
    attention = block["attention"]
    qkv = jax.tree.map(lambda x: jnp.split(x, 3, axis=-1), attention.pop("qkv"))
    for part, name in enumerate(("query", "key", "value")):
        attention[name] = {key: value[part] for key, value in qkv.items()}
    return {**params, "block_0": block}


def test_the_arithmetic_of_base_models_is_that_of_the_literature(bench):
    flops = bench("flops")
    clip, clipin = map(with_defaults, map(load_config, (BASE, BASE_CLIPIN)))
    # ViT-B/16 at 224 px: 17.6 GMAC (arXiv 2010.11929); the text tower of CLIP: 3.0
    assert flops.towers_macs(clip.model) / 1e9 == pytest.approx(17.6 + 3.0, rel=0.01)
    assert flops.step_flops(clipin) / flops.step_flops(clip) == pytest.approx(
        1.34, abs=0.005
    )


@pytest.mark.parametrize("name", [BASE, BASE_CLIPIN])
def test_the_count_is_what_the_compiler_counts(bench, name):
    config = with_defaults(load_config(name, ["batch_size=2", "model.image.depth=2"]))
    config.model.text.depth = 2
    run = build_experiment(config, jax.devices()[:1])
    batch = bench("step_time").random_batch(config)
    step = jax.jit(make_train_step(run.learner, run.optimizer))
    with jax.set_mesh(run.mesh):
        lowered = step.lower(run.abstract_state, batch, run.hyper(0))
    counted = lowered.cost_analysis()["flops"]
    assert bench("flops").step_flops(config) == pytest.approx(counted, rel=0.2)
