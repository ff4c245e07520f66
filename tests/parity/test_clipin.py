"""The released CLIPin against our code, in float64.

The golden files have optimizer steps, variants and an evaluation of a small model.
"""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest

from clipin_jax.core.state import select
from tests.parity import names
from tests.parity.clipin_run import ClipinRun, batch_statistics
from tests.parity.compare import (
    FORWARD_TOLERANCE,
    GRADIENT_TOLERANCE,
    STATE_TOLERANCE,
    assert_close,
    deviation,
    key_biases,
    stacked,
    to_file_layout,
)
from tests.parity.forward import channels_last
from tests.parity.golden_files import load, select_prefix
from tests.parity.steps import first_gradient, take_steps

PARAMETER_TOLERANCE = 1e-9  # Adam divides by sqrt(v) + 1e-6
# Biases in front of a batch norm, which subtracts them.
BEFORE_NORM = re.compile(r"noncontrast\.2\.bias$|_layer1\.0\.bias$")


to_tree = functools.partial(names.to_tree, names.CLIPIN)


def zero_gradients(name, size):
    """Returns the index of entries that do not influence the loss, None for none."""
    return ... if BEFORE_NORM.search(name) else key_biases(name, size)


def test_features_of_step_1(clipin):
    @jax.jit
    def forward(state, batch):
        def online(m, view):
            features = m.encode(view)
            clipin = m.objectives["clipin"]
            return features, clipin.predictions(features, train=True)

        targets, _ = clipin.learner.apply(
            state.target_variables, batch, method="targets", mutable=["batch_stats"]
        )
        (features, predictions), _ = clipin.learner.apply(
            state.variables, batch["view1"], method=online, mutable=["batch_stats"]
        )
        return features, predictions, targets["view1"]["clipin"]

    features, predictions, targets = forward(clipin.start(), clipin.batch(1))
    image, text = features["image"], features["text"]
    ours = {
        "out/z_image": image["embedding"],
        "out/z_text": text["embedding"],
        "out/y_image": targets["image"],
        "out/y_text": targets["text"],
        "out/p_image": predictions["image_to_text"],
        "out/p_text": predictions["text_to_image"],
        "out/r_image": predictions["image_to_image"],
        "out/r_text": predictions["text_to_text"],
        "act/visual.ln_post": image["pooled"],
        "act/TextEncoder.ln_final": text["tokens"],
        "act/visual.img_proj_front": image["shared"],
        "act/text_proj_front": text["shared"],
    }
    for name, value in ours.items():
        assert deviation(value, clipin.file[f"step1/{name}"]) < FORWARD_TOLERANCE, name


def test_gradients_of_step_1(clipin):
    wanted = clipin.file.section("step1/grads/")
    gradient = first_gradient(clipin.steps[0].state, clipin.b1)
    ours = to_file_layout(gradient, wanted, to_tree)
    assert_close(ours, wanted, GRADIENT_TOLERANCE, zero_gradients)


def test_gradients_of_scanned_layers(clipin):
    scanned = {
        "model.scan_layers": True,
        "model.remat.image": "full",
        "model.remat.text": "full",
    }
    run = ClipinRun(clipin.file, **scanned)
    start = clipin.start()
    start = dataclasses.replace(
        start,
        params=stacked(start.params),
        target_params=stacked(start.target_params),
        opt_state=run.optimizer(run.hyper(0)).init(stacked(start.params)),
    )
    step = run.train_step(start, run.batch(1), run.hyper(0))
    wanted = run.file.section("step1/grads/")
    gradient = first_gradient(step[0], run.b1)
    ours = to_file_layout(gradient, wanted, lambda arrays: stacked(to_tree(arrays)))
    assert_close(ours, wanted, GRADIENT_TOLERANCE, zero_gradients)


def test_steps(clipin):
    assert_steps_match(clipin)


def assert_steps_match(clipin):
    for k, step in zip(clipin.file.steps, clipin.steps, strict=True):
        rate, lr = step.metrics["learning_rate"], clipin.file[f"step{k}/lr"]
        assert abs(rate - lr) < 1e-15
        assert_losses(step.metrics, clipin.file.section(f"step{k}/losses/"))
        assert_scalars(step.state, clipin.file.section(f"step{k}/scalars_after/"))
        state = step.state
        online, target = batch_statistics(clipin.file.section(f"step{k}/buffers/"))
        for ours, part, tolerance in (
            (
                state.params,
                clipin.file.section(f"step{k}/params/"),
                PARAMETER_TOLERANCE,
            ),
            (step.target_params, clipin.file.section(f"step{k}/ema/"), STATE_TOLERANCE),
            (state.collections["batch_stats"], online, STATE_TOLERANCE),
            (state.target_collections["batch_stats"], target, STATE_TOLERANCE),
        ):
            ours = to_file_layout(ours, part, to_tree)
            assert_close(ours, {name: part[name] for name in ours}, tolerance)


def test_file_with_one_step(clipin):
    later = re.compile(r"step([2-9]|\d\d)")
    arrays = {k: v for k, v in clipin.file.arrays.items() if not later.match(k)}
    run = ClipinRun(dataclasses.replace(clipin.file, arrays=arrays))
    assert run.file.steps == [1] and len(run.steps) == 1
    assert_steps_match(run)


def assert_losses(metrics, losses):
    ours = {
        "total": metrics["loss"],
        "inter": metrics["clipin/inter_loss"],
        "intra": metrics["clipin/intra_loss"],
        "clip": metrics["contrastive/loss"],
    }
    for name, value in ours.items():
        assert deviation(value, losses[name]) < FORWARD_TOLERANCE, name


def assert_scalars(state, expected):
    contrastive = state.params["objectives_contrastive"]
    clipin = state.params["objectives_clipin"]
    ours = {
        "logit_scale": contrastive["logit_scale"],
        "lambda_combine": contrastive["learned_weight"]["value"],
        "lambda_selfalign": clipin["learned_intra_weight"]["value"],
    }
    for name, value in ours.items():
        assert abs(value - expected[name]) < PARAMETER_TOLERANCE, name


VARIANTS = {
    "no_sep_aug": {"objectives.clipin.target_view": "same"},
    "onlyclip": {"objectives.clipin.weight": 0.0},
    "second_text": {},
    "clamp_low": {},
    "clamp_high": {},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants(clipin, golden_folder, variant):
    file = load(golden_folder, "clipin_variants.npz")
    expected = file.section_or_skip(f"{variant}/")
    run = ClipinRun(clipin.file, **VARIANTS[variant])
    numbers = file.list_numbers(f"{variant}/step{{}}/losses/")
    inputs = (
        (run.batch(k, expected.get(f"step{k}/inputs/tokens_target")), run.hyper(k - 1))
        for k in numbers
    )
    start = run.start(**select_prefix(expected, "init/params/"))
    steps = take_steps(run.train_step, start, inputs)
    wanted = select_prefix(expected, "step1/grads/")
    # The file has the gradients of some parameters only.
    subset = to_tree({name: np.zeros(value.shape) for name, value in wanted.items()})
    gradient = select(first_gradient(steps[0].state, run.b1), subset)
    assert_close(to_file_layout(gradient, wanted, to_tree), wanted, GRADIENT_TOLERANCE)
    for k, step in zip(numbers, steps, strict=True):
        assert_losses(step.metrics, select_prefix(expected, f"step{k}/losses/"))
        assert_scalars(step.state, select_prefix(expected, f"step{k}/scalars_after/"))
        norms = file.meta["param_norm_names"], expected[f"step{k}/param_norms"]
        assert_norms(run, step, dict(zip(*norms, strict=True)))


def assert_norms(run, step, norms):
    """Compares the 2-norms of the online and the target parameters."""
    params, ema = (run.file.section(f"init/{kind}/") for kind in ("params", "ema"))
    ours = to_file_layout(step.state.params, params, to_tree)
    ours |= to_file_layout(step.target_params, ema, to_tree)
    assert ours.keys() == norms.keys()
    for name, norm in norms.items():
        error = abs(np.linalg.norm(ours[name]) - norm)
        assert error <= PARAMETER_TOLERANCE * max(norm, 1), name


def test_evaluation(clipin):
    inputs = clipin.file.section_or_skip("eval/inputs/")
    images = {"image": channels_last(inputs["images"])}
    texts = {"text": inputs["tokens"]}

    @jax.jit
    def forward(variables, target_variables):
        def online(m):
            predictions = m.predictions(texts)["clipin"]["text_to_image"]
            image, text = m.encode(images)["image"], m.encode(texts)["text"]
            return image, text, predictions

        targets = clipin.learner.apply(
            target_variables, {"view1": images}, train=False, method="targets"
        )
        return clipin.learner.apply(variables, method=online), targets["view1"]

    params, variables, target_variables = clipin.after_last_step()
    (image, text, predictions), targets = forward(variables, target_variables)
    scale = np.exp(params["objectives_contrastive"]["logit_scale"])
    contrastive = scale * image["embedding"] @ text["embedding"].T
    noncontrastive = targets["clipin"]["image"] @ predictions.T
    expected = clipin.file.section("eval/")
    for name, value in {
        "similarity_contrast/per_image": contrastive,
        "similarity_noncontrast/per_image": noncontrastive,
        "encode_image_featExt": image["pooled"],
        "encode_text_featExt": text["pooled"],
    }.items():
        assert deviation(value, expected[name]) < FORWARD_TOLERANCE, name
