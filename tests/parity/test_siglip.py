"""The sigmoid loss against open_clip, SigLIP's towers against transformers, float64.

Eager attention of transformers takes its softmax in float32 whatever the model's dtype.
So there are two runs of the same model: `sdpa`, in float64 throughout, held to the
tolerances of float64, and `eager`, held to those of float32.
"""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from clipin_jax.core.learner import build
from clipin_jax.objectives.losses import sigmoid_contrastive
from clipin_jax.types import Array
from tests.parity.compare import assert_tree_close, deviation
from tests.parity.siglip_names import to_tree
from tests.parity.torch_names import below, load

FORWARD, GRADIENT = 1e-11, 1e-10
RUNS = {  # file, tolerances of outputs and of gradients
    "sdpa": ("siglip_hf_sdpa_tiny.npz", FORWARD, GRADIENT),
    "eager": ("siglip_hf_tiny.npz", 1e-6, 5e-6),
}


@pytest.mark.parametrize("case", ["webli_init", "coco_init", "random"])
def test_loss(golden_folder, case):
    arrays, _ = load(golden_folder, "siglip_loss.npz")
    arrays = below(arrays, f"{case}/")
    names = ("image_features", "text_features", "log_scale", "bias")

    def loss(image, text, log_scale, bias) -> Array:
        return sigmoid_contrastive(jax.numpy.exp(log_scale) * image @ text.T + bias)

    with jax.enable_x64(True):
        inputs = [jax.numpy.asarray(arrays[name]) for name in names]
        value, grads = jax.value_and_grad(loss, argnums=(0, 1, 2, 3))(*inputs)
        assert deviation(value, arrays["loss"]) < FORWARD
        for name, gradient in zip(names, grads, strict=True):
            assert deviation(gradient, arrays[f"grads/{name}"]) < GRADIENT, name


def config_of(c: dict) -> ConfigDict:
    """The config of the golden file's model, at its sizes."""
    shared = dict(
        activation="gelu_tanh", norm_eps=c["layer_norm_eps"], initializer="xavier"
    )
    return ConfigDict(
        dict(
            model=dict(
                embed_dim=c["projection"],
                pre_projector=0,
                projection=dict(image="none", text="linear"),
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
                    mlp_ratio=c["v_mlp"] / c["v_width"],
                    pool="map",
                    patch_bias=True,
                    pre_norm=False,
                    **shared,
                ),
                text=dict(
                    name="text_transformer",
                    width=c["t_width"],
                    depth=c["t_layers"],
                    num_heads=c["t_heads"],
                    mlp_ratio=c["t_mlp"] / c["t_width"],
                    context_length=c["context"],
                    vocab_size=c["vocab"],
                    causal=False,
                    pool="last",
                    **shared,
                ),
            ),
            objectives=dict(sigmoid=dict(weight=1.0)),
            target=dict(decay=0.0, symmetric=False),
        )
    )


@pytest.mark.parametrize("run", RUNS)
def test_transformers(golden_folder, run):
    arrays, meta = load(golden_folder, "siglip_hf_tiny.npz")
    file, forward, gradient = RUNS[run]
    results, made = load(golden_folder, file)
    assert (made["attn_implementation"], made["config"]) == (run, meta["config"])
    with jax.enable_x64(True):
        learner = build(config_of(meta["config"]))
        params = to_tree(below(arrays, "params/"))
        view = {
            "image": arrays["inputs/images"].transpose(0, 2, 3, 1),
            "text": arrays["inputs/tokens"],
        }
        check_forward(learner, params, view, below(results, "out/"), forward)
        value, grads = loss_and_gradients(learner, params, view)
        assert deviation(value, results["out/loss"]) < forward
        wanted = to_tree(below(results, "grads/"))
        assert_tree_close(grads, wanted, gradient, zero=key_bias)


def check_forward(learner, params, view, expected, tolerance):
    features = learner.apply({"params": params}, view, method="encode")
    image, text = features["image"], features["text"]
    layer, heads = params["towers"]["text_projection"], params["objectives_sigmoid"]
    projected = text["pooled"] @ layer["kernel"] + layer["bias"]
    cosines = image["embedding"] @ text["embedding"].T
    logits = np.exp(heads["logit_scale"]) * cosines + heads["logit_bias"]
    for ours, name in (
        (image["tokens"], "vision_last_hidden_state"),
        (image["pooled"], "vision_pooled"),
        (image["embedding"], "image_features"),
        (text["tokens"], "text_last_hidden_state"),
        (projected, "text_pooled"),
        (text["embedding"], "text_features"),
        (logits, "logits_per_image"),
    ):
        assert deviation(ours, expected[name]) < tolerance, name


def loss_and_gradients(learner, params, view):
    hyper = {"objectives": {"sigmoid": {"weight": 1.0}}}

    def loss(params):
        targets = {"view1": {}}
        return learner.apply({"params": params}, {"view1": view}, targets, hyper)[0]

    return jax.jit(jax.value_and_grad(loss))(params)


def key_bias(path):
    """Attention does not see the bias of its keys: the gradient is rounding noise."""
    if path.endswith("key_in/bias"):
        return ...
    if not path.endswith("qkv/bias"):
        return None
    return np.s_[48:96] if "image" in path else np.s_[32:64]
