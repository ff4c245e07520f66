"""ALBEF's pretraining, number by number, in float64: two steps of its own code."""

import functools
import re

import jax
import numpy as np
import pytest

from clipin_jax.objectives.matching import negative_log_weights
from tests.parity.bert_names import our_path, to_tree
from tests.parity.compare import deviation
from tests.parity.momentum_run import (
    FORWARD,
    GoldenRun,
    host_config,
)
from tests.parity.torch_names import below, load

NO_DECAY = (r"bias$", r"scale$")
LOSSES = {
    "momentum_contrastive/loss": "itc",
    "matching/loss": "itm",
    "masked_lm/loss": "mlm",
}


@pytest.fixture(scope="module", autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def golden(golden_folder):
    arrays, meta = load(golden_folder, "albef_tiny.npz")
    return run_of(arrays, meta), meta


def run_of(arrays, meta):
    c = meta["config"]
    text = dict(
        name="split_bert", depth=c["fusion_layer"],
        fusion_depth=c["t_layers"] - c["fusion_layer"],
        token_types=arrays[TYPES].shape[0],
    )  # fmt: skip
    objectives = dict(
        momentum_contrastive=dict(weight=1.0, init_temperature=c["temp"]),
        matching=dict(weight=1.0, temperature=c["temp"]),
        masked_lm=dict(weight=1.0),
    )
    config = host_config(meta, text, objectives, NO_DECAY)
    depth = c["fusion_layer"]
    return GoldenRun(arrays, config, functools.partial(to_tree, text_depth=depth))


TYPES = "init/params/text_encoder.bert.embeddings.token_type_embeddings.weight"


def batch_of(arrays, k):
    inputs = below(arrays, f"step{k}/inputs/")
    draws = below(arrays, f"step{k}/draws/")
    view = {
        "image": inputs["images"].transpose(0, 2, 3, 1),
        "text": inputs["input_ids"],
        "masked_text": draws["mlm_input_ids"],
        "masked_labels": draws["mlm_labels"],
    }
    return {"view1": view}


def test_what_is_averaged_and_what_decays(golden):
    """The copies are exactly the reference's, and so is the list without decay."""
    run, meta = golden
    state = run.start(batch_of(run.arrays, 1))
    assert jax.tree.structure(state.target_params) == jax.tree.structure(
        run.tree("init/ema/")
    )
    depth = meta["config"]["fusion_layer"]
    for kind in ("decay", "no_decay"):
        for name in meta["optimizer"][kind]:
            free = any(re.search(p, our_path(name, depth)) for p in NO_DECAY)
            assert free == (kind == "no_decay"), name


def test_activations_of_step_1(golden):
    run, _ = golden
    batch = batch_of(run.arrays, 1)
    view, state = batch["view1"], run.start(batch)
    act = below(run.arrays, "step1/act/")
    features = run.apply(state.variables, view, method="encode")
    image, text = features["image"], features["text"]
    targets = run.apply(state.target_variables, batch, method="targets")
    targets = targets["view1"]
    fused, logits = run.apply(
        state.variables,
        method=lambda m: (
            m.towers.text.fuse(view["text"], text["tokens"], image["tokens"]),
            m.towers.text.predict_masked(view["masked_text"], image["tokens"]),
        ),
    )
    ours = {
        "image_embeds": image["tokens"],
        "text_embeds": text["tokens"],
        "image_feat": image["embedding"],
        "text_feat": text["embedding"],
        "image_feat_m": targets["momentum_contrastive"]["image"],
        "text_feat_m": targets["momentum_contrastive"]["text"],
        "fused_pos": fused,
        "mlm_logits": logits,
        "logits_m": targets["masked_lm"],
    }
    for name, value in ours.items():
        assert deviation(value, act[name]) < FORWARD, name


@pytest.mark.parametrize("way", ["i2t", "t2i"])
def test_weights_of_negatives(golden, way):
    run, meta = golden
    act = below(run.arrays, "step1/act/")
    own = act[f"sim_{way}"][:, : meta["config"]["batch"]]
    weights = np.exp(negative_log_weights(own))
    assert deviation(weights, act[f"weights_{way}"]) < FORWARD


def test_two_steps(golden, monkeypatch):
    run, _ = golden
    batches = [batch_of(run.arrays, k) for k in (1, 2)]
    run.check_steps(monkeypatch, batches, LOSSES)


def test_scores_of_ranking_again(golden):
    """Of the candidates; the file has -100 everywhere else."""
    run, _ = golden
    inputs = below(run.arrays, "rerank/inputs/")
    variables = {"params": run.tree("step2/params/")}
    view = {
        "image": inputs["images"].transpose(0, 2, 3, 1),
        "text": inputs["input_ids"],
    }
    features = run.apply(variables, view, method="encode")
    expected = run.arrays["rerank/scores_i2t"]
    image, text = np.nonzero(expected != -100)
    scores = run.apply(
        variables,
        view["text"][text],
        features["text"]["tokens"][text],
        features["image"]["tokens"][image],
        method=lambda m, *x: m.objectives["matching"].scores(m.towers, *x),
    )
    assert deviation(scores, expected[image, text]) < FORWARD
