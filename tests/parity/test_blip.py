"""BLIP's pretraining, number by number, in float64: two steps of its own code.

And the matching model of `transformers`, on other parameters.
"""

import jax
import numpy as np
import pytest

from clipin_jax.objectives.matching import negative_log_weights
from tests.parity.bert_names import to_tree
from tests.parity.compare import deviation
from tests.parity.momentum_run import (
    FORWARD,
    GoldenRun,
    host_config,
)
from tests.parity.torch_names import below, load

FLOOR = 1e-4
# What the file of `transformers` does not say, since nothing is trained there.
UNTRAINED = dict(
    temp=0.07, alphas=(0, 0), momentum=0.0, queue=0, lr=0.0, weight_decay=0.0
)
LOSSES = {
    "momentum_contrastive/loss": "itc",
    "matching/loss": "itm",
    "captioning/loss": "lm",
}


@pytest.fixture(scope="module", autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def run_of(arrays, meta, **objectives):
    c = UNTRAINED | meta["config"]
    c.setdefault("embed", c.get("embed_dim"))
    meta = {"optimizer": dict(betas=(0.9, 0.999), eps=1e-8), **meta, "config": c}
    text = dict(
        name="mixture_bert", depth=c["t_layers"], decode_id=c["vocab"] - 2,
        encode_id=c["vocab"] - 1,
    )  # fmt: skip
    objectives = dict(
        momentum_contrastive=dict(weight=1.0, init_temperature=c["temp"]),
        matching=dict(weight=1.0, temperature=c["temp"], floor=FLOOR),
        **objectives,
    )
    return GoldenRun(arrays, host_config(meta, text, objectives), to_tree)


@pytest.fixture(scope="module")
def golden(golden_folder):
    arrays, meta = load(golden_folder, "blip_tiny.npz")
    captioning = dict(weight=1.0, label_smoothing=0.1)
    return run_of(arrays, meta, captioning=captioning), meta


def batch_of(arrays, k):
    inputs = below(arrays, f"step{k}/inputs/")
    image = inputs["images"].transpose(0, 2, 3, 1)
    return {"view1": {"image": image, "text": inputs["input_ids"]}}


def test_what_is_averaged(golden):
    """The reference's copies, but for its unused cross-attention."""
    run, _ = golden
    ema = run.tree("init/ema/")
    for layer in ema["towers"]["text"]["layers"].values():
        del layer["cross_attention"]
    target = run.start(batch_of(run.arrays, 1)).target_params
    assert jax.tree.structure(target) == jax.tree.structure(ema)


def test_activations_of_step_1(golden):
    run, _ = golden
    batch = batch_of(run.arrays, 1)
    view, state = batch["view1"], run.start(batch)
    act = below(run.arrays, "step1/act/")
    features = run.apply(state.variables, view, method="encode")
    image, text = features["image"], features["text"]
    targets = run.apply(state.target_variables, batch, method="targets")
    keys = targets["view1"]["momentum_contrastive"]
    inputs = view["text"], text["tokens"], image["tokens"]
    fused, logits = run.apply(
        state.variables,
        method=lambda m: (m.towers.text.fuse(*inputs), m.towers.text.decode(*inputs)),
    )
    ours = {
        "image_embeds": image["tokens"],
        "text_embeds": text["tokens"],
        "image_feat": image["embedding"],
        "text_feat": text["embedding"],
        "image_feat_m": keys["image"],
        "text_feat_m": keys["text"],
        "fused_pos": fused,
        "lm_logits": logits,
    }
    for name, value in ours.items():
        assert deviation(value, act[name]) < FORWARD, name


@pytest.mark.parametrize("way", ["i2t", "t2i"])
def test_weights_of_negatives(golden, way):
    run, meta = golden
    act = below(run.arrays, "step1/act/")
    own = act[f"sim_{way}"][:, : meta["config"]["batch"]]
    weights = np.exp(negative_log_weights(own, floor=FLOOR))
    assert deviation(weights, act[f"weights_{way}"]) < FORWARD


def test_two_steps(golden, monkeypatch):
    run, _ = golden
    batches = [batch_of(run.arrays, k) for k in (1, 2)]
    run.check_steps(monkeypatch, batches, LOSSES)


def test_scores_of_ranking_again(golden):
    """The file adds the cosine to the logit; -100 stands where nothing was scored."""
    run, _ = golden
    inputs = below(run.arrays, "rerank/inputs/")
    variables = {"params": run.tree("step2/params/")}
    view = {
        "image": inputs["images"].transpose(0, 2, 3, 1),
        "text": inputs["input_ids"],
    }
    features = run.apply(variables, view, method="encode")
    expected = run.arrays["rerank/scores_t2i"]
    text, image = np.nonzero(expected != -100)
    pairs = {"image": image, "text": text}
    chosen = {m: {k: v[pairs[m]] for k, v in f.items()} for m, f in features.items()}
    scores = run.apply(
        variables,
        view["text"][text],
        chosen["text"]["tokens"],
        chosen["image"]["tokens"],
        method=lambda m, *x: m.objectives["matching"].scores(m.towers, *x),
    )
    cosine = (chosen["text"]["embedding"] * chosen["image"]["embedding"]).sum(-1)
    assert deviation(scores + cosine, expected[text, image]) < FORWARD


def test_the_matching_model_of_transformers(golden_folder):
    arrays, meta = load(golden_folder, "blip_itm_hf_tiny.npz")
    run = run_of(arrays, meta)
    variables = {"params": run.tree("params/")}
    image = arrays["inputs/images"].transpose(0, 2, 3, 1)
    view = {"image": image, "text": arrays["inputs/input_ids"]}
    features = run.apply(variables, view, method="encode")
    image, text = features["image"], features["text"]
    inputs = view["text"], text["tokens"], image["tokens"]
    fused, scores = run.apply(
        variables,
        method=lambda m: (
            m.towers.text.fuse(*inputs),
            m.objectives["matching"].scores(m.towers, *inputs),
        ),
    )
    similarity = image["embedding"] @ text["embedding"].T
    ours = {
        "image_embeds": image["tokens"],
        "itc/text_states": text["tokens"],
        "itm/fused_states": fused,
    }
    for name, value in ours.items():
        assert deviation(value, arrays[name]) < FORWARD, name
    assert deviation(scores, arrays["itm/logits"][:, 1]) < FORWARD
    assert deviation(similarity, arrays["itc/similarity"]) < FORWARD
