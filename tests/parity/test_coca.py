"""CoCa's towers, logits, losses and gradients against open_clip, in float64."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from clipin_jax.core.learner import build
from tests.parity.coca_names import coca_tree
from tests.parity.compare import assert_tree_close, deviation, stacked
from tests.parity.torch_names import below, load

FORWARD, GRADIENT = 1e-11, 1e-10
MASKS = {"legacy_mask": "shifted", "correct_mask": "aligned"}


def config_of(c: dict, padding_mask: str, scan_layers: bool = False) -> ConfigDict:
    """The config of the golden file's model, at its sizes."""
    image = dict(
        name="pooled_vit",
        patch_size=(c["patch"],) * 2,
        image_size=(c["image"],) * 2,
        width=c["v_width"],
        depth=c["v_layers"],
        num_heads=c["v_heads"],
        activation="gelu",
        pool="single",
        num_queries=c["pooler_queries"],
        pool_width=c["embed_dim"],
        pool_heads=c["pooler_heads"],
    )
    text = dict(
        name="split_decoder",
        width=c["t_width"],
        depth=c["t_layers"],
        num_heads=c["t_heads"],
        decoder_depth=c["m_layers"],
        context_length=c["context"],
        vocab_size=c["vocab"],
        padding_mask=padding_mask,
    )
    model = dict(
        embed_dim=c["embed_dim"],
        pre_projector=0,
        projection=dict(image="matrix", text="matrix"),
        embedding_from="",
        dtype="float64",
        param_dtype="float64",
        scan_layers=scan_layers,
        remat=scan_layers,
        image_mean=(0.5,) * 3,
        image_std=(0.5,) * 3,
        image=image,
        text=text,
    )
    objectives = dict(contrastive=dict(weight=1.0), captioning=dict(weight=2.0))
    target = dict(decay=0.0, symmetric=False)
    return ConfigDict(dict(model=model, objectives=objectives, target=target))


@pytest.fixture(scope="module")
def golden(golden_folder):
    return load(golden_folder, "coca_tiny.npz")


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def view_of(arrays):
    image = arrays["inputs/images"].transpose(0, 2, 3, 1)
    return {"image": image, "text": arrays["inputs/tokens"]}


@pytest.mark.parametrize("case", MASKS)
def test_features_and_logits(golden, case):
    arrays, meta = golden
    learner = build(config_of(meta["config"], MASKS[case]))
    params = coca_tree(below(arrays, "params/"))
    view, expected = view_of(arrays), below(arrays, f"{case}/")

    def forward(learner, view):
        features = learner.encode(view)
        tokens = {m: features[m]["tokens"] for m in features}
        decode = learner.towers.text.decode
        return features, decode(view["text"], tokens["text"], tokens["image"], False)

    run = jax.jit(
        lambda params: learner.apply({"params": params}, view, method=forward)
    )
    features, logits = run(params)
    for name, ours in {
        "image_embs": features["image"]["tokens"],
        "token_embs": features["text"]["tokens"],
        "act/text.ln_final": features["text"]["pooled"],
        "out/image_features": features["image"]["embedding"],
        "out/text_features": features["text"]["embedding"],
        "out/logits": logits[:, :-1],
    }.items():
        assert deviation(ours, expected[name]) < FORWARD, name


def loss_of(learner, params, arrays):
    batch, targets = {"view1": view_of(arrays)}, {"view1": {}}
    weights = {"contrastive": {"weight": 1.0}, "captioning": {"weight": 2.0}}
    hyper = {"objectives": weights}
    return learner.apply({"params": params}, batch, targets, hyper)


def key_bias(path):
    """Where the bias of keys is; it cannot influence the loss."""
    if path.endswith("key_in/bias"):
        return ...
    if not path.endswith("qkv/bias"):
        return None
    width = 48 if path.startswith("towers/image") else 32
    return np.s_[..., width : 2 * width]


@pytest.mark.parametrize(
    ("case", "scan_layers"),
    [("legacy_mask", False), ("correct_mask", False), ("correct_mask", True)],
)
def test_losses_and_gradients(golden, case, scan_layers):
    arrays, meta = golden
    learner = build(config_of(meta["config"], MASKS[case], scan_layers))
    params = coca_tree(below(arrays, "params/"))
    expected = below(arrays, f"{case}/")
    wanted = coca_tree(below(expected, "grads/"))
    if scan_layers:
        params, wanted = stacked(params), stacked(wanted)
    step = jax.value_and_grad(lambda p: loss_of(learner, p, arrays), has_aux=True)
    (loss, metrics), grads = jax.jit(step)(params)
    assert deviation(loss, expected["losses/total"]) < FORWARD
    contrastive, caption = metrics["contrastive/loss"], 2 * metrics["captioning/loss"]
    assert deviation(contrastive, expected["losses/contrastive"]) < FORWARD
    assert deviation(caption, expected["losses/caption_weighted"]) < FORWARD
    assert_tree_close(grads, wanted, GRADIENT, zero=key_bias)
