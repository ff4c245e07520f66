"""CLIP's towers, logits, loss and gradients against open_clip, in float64."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from clipin_jax.core.learner import build
from tests.parity.compare import assert_tree_close, deviation
from tests.parity.torch_names import below, load, open_clip_names, to_tree

FORWARD, GRADIENT = 1e-11, 1e-10
ACTIVATIONS = {"gelu": "gelu", "quickgelu": "quick_gelu"}


def config_of(c: dict, activation: str) -> ConfigDict:
    """The config of the golden file's model, at its sizes."""
    return ConfigDict(
        dict(
            model=dict(
                embed_dim=c["embed_dim"],
                pre_projector=0,
                projection=dict(image="matrix", text="matrix"),
                embedding_from="",
                dtype="float64",
                param_dtype="float64",
                scan_layers=False,
                remat=False,
                image_mean=(0.5,) * 3,
                image_std=(0.5,) * 3,
                image=dict(
                    name="vit",
                    patch_size=(c["patch"],) * 2,
                    image_size=(c["image"],) * 2,
                    width=c["v_width"],
                    depth=c["v_layers"],
                    num_heads=c["v_heads"],
                    activation=activation,
                ),
                text=dict(
                    name="text_transformer",
                    width=c["t_width"],
                    depth=c["t_layers"],
                    num_heads=c["t_heads"],
                    context_length=c["context"],
                    vocab_size=c["vocab"],
                    activation=activation,
                ),
            ),
            objectives=dict(contrastive=dict(weight=1.0)),
            target=dict(decay=0.0, symmetric=False),
        )
    )


@pytest.mark.parametrize("case", ACTIVATIONS)
def test_open_clip(golden_folder, case):
    with jax.enable_x64(True):
        check(*load(golden_folder, "clip_vit_tiny.npz"), case)


def check(arrays, meta, case):
    learner = build(config_of(meta["config"], ACTIVATIONS[case]))
    params = to_tree(open_clip_names(below(arrays, "params/")))
    view = {
        "image": arrays["inputs/images"].transpose(0, 2, 3, 1),
        "text": arrays["inputs/tokens"],
    }
    expected = below(arrays, f"{case}/")
    features = learner.apply({"params": params}, view, method="encode")
    image, text = features["image"]["embedding"], features["text"]["embedding"]
    assert deviation(image, expected["image_features"]) < FORWARD
    assert deviation(text, expected["text_features"]) < FORWARD
    assert deviation(features["text"]["tokens"], expected["act/ln_final"]) < FORWARD
    scale = np.exp(arrays["params/logit_scale"])
    assert deviation(scale * image @ text.T, expected["logits_per_image"]) < FORWARD

    hyper = {"objectives": {"contrastive": {"weight": 1.0}}}

    def loss(params):
        targets = {"view1": {}}
        return learner.apply({"params": params}, {"view1": view}, targets, hyper)[0]

    value, grads = jax.jit(jax.value_and_grad(loss))(params)
    assert deviation(value, expected["loss"]) < FORWARD
    wanted = to_tree(open_clip_names(below(expected, "grads/")))

    def key_bias(path):
        if not path.endswith("qkv/bias"):
            return None
        third = wanted["towers"][path.split("/")[1]][
            "ln_post" if "image" in path else "ln_final"
        ]["bias"].shape[0]
        return np.s_[..., third : 2 * third]

    assert_tree_close(grads, wanted, GRADIENT, zero=key_bias)
