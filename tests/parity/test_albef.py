"""ALBEF's pretraining against our code, in float64: activations and all steps."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from clipin_jax.objectives.matching import negative_log_weights
from tests.parity import names
from tests.parity.compare import FORWARD_TOLERANCE, deviation
from tests.parity.host_runs import (
    ALBEF_NO_DECAY,
    albef_run,
    queue_similarities,
    read_view,
)


def test_target_and_decayed_parameters(albef):
    """The target has the reference's parameters; so has the list without decay."""
    reference = albef.to_tree(albef.file.section("init/ema/"))
    target = albef.start.target_params
    assert jax.tree.structure(target) == jax.tree.structure(reference)
    table = names.albef_table(albef.file.sizes)
    for kind in ("decay", "no_decay"):
        for name in albef.file.meta["optimizer"][kind]:
            [path] = names.paths_of(table, name)
            no_decay = any(re.search(pattern, path) for pattern in ALBEF_NO_DECAY)
            assert no_decay == (kind == "no_decay"), name


@pytest.fixture(scope="module")
def activations(albef):
    """Our activations of step 1, by the file's names."""

    @jax.jit
    def forward(state, batch):
        view = batch["view1"]

        def online(m):
            features = m.encode(view)
            text, image = (features[m]["tokens"] for m in ("text", "image"))
            fused = m.towers.text.fuse(view["text"], text, image)
            return (
                features,
                fused,
                m.towers.text.predict_masked(view["masked_text"], image),
            )

        targets = albef.learner.apply(state.target_variables, batch, method="targets")
        return albef.learner.apply(state.variables, method=online), targets["view1"]

    with jax.enable_x64(True):
        (features, fused, logits), targets = forward(albef.start, albef.batch(1))
        keys = targets["momentum_contrastive"]
        return {
            "image_embeds": features["image"]["tokens"],
            "text_embeds": features["text"]["tokens"],
            "image_feat": features["image"]["embedding"],
            "text_feat": features["text"]["embedding"],
            "image_feat_m": keys["image"],
            "text_feat_m": keys["text"],
            "fused_pos": fused,
            "mlm_logits": logits,
            "logits_m": targets["masked_lm"],
        } | queue_similarities(albef, features, keys)


def test_activations_of_step_1(albef, activations):
    expected = albef.file.section("step1/act/")
    for name, value in activations.items():
        assert deviation(value, expected[name]) < FORWARD_TOLERANCE, name


@pytest.mark.parametrize("direction", ["i2t", "t2i"])
def test_negative_weights(albef, activations, direction):
    expected = albef.file[f"step1/act/weights_{direction}"]
    of_batch = activations[f"sim_{direction}"][:, : expected.shape[0]]
    weights = np.exp(negative_log_weights(of_batch))
    assert deviation(weights, expected) < FORWARD_TOLERANCE


def test_steps(albef):
    albef.assert_steps_match()


def test_reranking_scores(albef):
    """Only candidates have scores; the file has -100 for all other pairs."""
    view = read_view(albef.file, "rerank/inputs/")
    expected = albef.file["rerank/scores_i2t"]
    image, text = np.nonzero(expected != -100)

    def scores(m, view):
        features = m.encode(view)
        return m.objectives["matching"].scores(
            m.towers,
            view["text"][text],
            features["text"]["tokens"][text],
            features["image"]["tokens"][image],
        )

    variables = {"params": albef.steps[-1].state.params}
    ours = albef.apply(variables, view, method=scores)
    assert deviation(ours, expected[image, text]) < FORWARD_TOLERANCE


def test_step_settings_come_from_the_file(albef):
    """These are the share of soft labels, and a temperature that is clipped."""
    arrays = albef.file.arrays | {
        "step3/losses/total": np.array(1.0),
        "step3/inputs/alpha": np.array(0.125),
        "init/params/temp": np.array(0.75),
    }
    run = albef_run(dataclasses.replace(albef.file, arrays=arrays))
    assert run.file.steps[-1] == 3
    for name in ("momentum_contrastive", "masked_lm"):
        assert run.hyper(3)["objectives"][name]["distillation"] == 0.125
    temperature = run.start.params["objectives_momentum_contrastive"]["temperature"]
    assert temperature["value"] == 0.5


def test_file_with_one_step(albef):
    later = re.compile(r"step([2-9]|\d\d)")
    arrays = {k: v for k, v in albef.file.arrays.items() if not later.match(k)}
    run = albef_run(dataclasses.replace(albef.file, arrays=arrays))
    run.__dict__["steps"] = albef.steps[:1]
    run.assert_steps_match()
