"""BLIP's pretraining against our code, in float64: activations and all steps.

The matching model of `transformers` is compared as well, with other parameters.
"""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from clipin_jax.core.learner import build
from clipin_jax.objectives.matching import negative_log_weights
from tests.parity.compare import FORWARD_TOLERANCE, deviation
from tests.parity.forward import jit_apply
from tests.parity.golden_files import load
from tests.parity.host_runs import BLIP_FLOOR, MATCHING, queue_similarities, read_view
from tests.parity.momentum_run import host_model_section
from tests.parity.names import BLIP_RETRIEVAL


def test_target_parameters(blip):
    """The reference also averages its cross-attention, but does not use it."""
    reference = blip.to_tree(blip.file.section("init/ema/"))
    for layer in reference["towers"]["text"]["layers"].values():
        del layer["cross_attention"]
    target = blip.start.target_params
    assert jax.tree.structure(target) == jax.tree.structure(reference)


@pytest.fixture(scope="module")
def activations(blip):
    """Our activations of step 1, by the file's names."""

    @jax.jit
    def forward(state, batch):
        view = batch["view1"]

        def online(m):
            features = m.encode(view)
            inputs = (features[m]["tokens"] for m in ("text", "image"))
            inputs = view["text"], *inputs
            text = m.towers.text
            return features, text.fuse(*inputs), text.decode(*inputs)

        targets = blip.learner.apply(state.target_variables, batch, method="targets")
        return blip.learner.apply(state.variables, method=online), targets["view1"]

    with jax.enable_x64(True):
        (features, fused, logits), targets = forward(blip.start, blip.batch(1))
        keys = targets["momentum_contrastive"]
        return {
            "image_embeds": features["image"]["tokens"],
            "text_embeds": features["text"]["tokens"],
            "image_feat": features["image"]["embedding"],
            "text_feat": features["text"]["embedding"],
            "image_feat_m": keys["image"],
            "text_feat_m": keys["text"],
            "fused_pos": fused,
            "lm_logits": logits,
        } | queue_similarities(blip, features, keys)


def test_activations_of_step_1(blip, activations):
    expected = blip.file.section("step1/act/")
    for name, value in activations.items():
        assert deviation(value, expected[name]) < FORWARD_TOLERANCE, name


@pytest.mark.parametrize("direction", ["i2t", "t2i"])
def test_negative_weights(blip, activations, direction):
    expected = blip.file[f"step1/act/weights_{direction}"]
    of_batch = activations[f"sim_{direction}"][:, : expected.shape[0]]
    weights = np.exp(negative_log_weights(of_batch, floor=BLIP_FLOOR))
    assert deviation(weights, expected) < FORWARD_TOLERANCE


def test_steps(blip):
    blip.assert_steps_match()


def test_reranking_scores(blip):
    """The file adds the cosine to the logit, and has -100 for all other pairs."""
    view = read_view(blip.file, "rerank/inputs/")
    expected = blip.file["rerank/scores_t2i"]
    text, image = np.nonzero(expected != -100)

    def scores(m, view):
        features = m.encode(view)
        texts = jax.tree.map(lambda x: x[text], features["text"])
        images = jax.tree.map(lambda x: x[image], features["image"])
        logits = m.objectives["matching"].scores(
            m.towers, view["text"][text], texts["tokens"], images["tokens"]
        )
        return logits + (texts["embedding"] * images["embedding"]).sum(-1)

    variables = {"params": blip.steps[-1].state.params}
    ours = blip.apply(variables, view, method=scores)
    assert deviation(ours, expected[text, image]) < FORWARD_TOLERANCE


def test_matching_model_of_transformers(golden_folder):
    file = load(golden_folder, "blip_itm_hf_tiny.npz")
    c = file.sizes
    text = dict(
        name="mixture_bert", depth=c["t_layers"], decode_id=c["dec_id"],
        encode_id=c["enc_id"], pad_id=c["pad_id"], norm_eps=c["t_eps"],
    )  # fmt: skip
    config = ConfigDict(
        dict(
            model=host_model_section(c, c["embed_dim"], text),
            objectives=dict(matching=MATCHING),
            target=dict(decay=0.0, symmetric=False),
        )
    )

    def forward(m, view):
        features = m.encode(view)
        image, text = features["image"], features["text"]
        inputs = view["text"], text["tokens"], image["tokens"]
        scores = m.objectives["matching"].scores(m.towers, *inputs)
        return image, text, m.towers.text.fuse(*inputs), scores

    variables = {"params": BLIP_RETRIEVAL.to_tree(file.section("params/"))}
    view = read_view(file, "inputs/")
    image, text, fused, scores = jit_apply(
        build(config), variables, view, method=forward
    )
    ours = {
        "image_embeds": image["tokens"],
        "itc/text_states": text["tokens"],
        "itc/similarity": image["embedding"] @ text["embedding"].T,
        "itm/fused_states": fused,
    }
    for name, value in ours.items():
        assert deviation(value, file[name]) < FORWARD_TOLERANCE, name
    assert deviation(scores, file["itm/logits"][:, 1]) < FORWARD_TOLERANCE
