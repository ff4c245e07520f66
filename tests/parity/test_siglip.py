"""The sigmoid loss against open_clip, SigLIP's towers against transformers, float64.

The eager attention of transformers computes its softmax in float32, whatever the dtype
of the model. Its results are compared at the tolerances of float32. The `sdpa`
attention is in float64 throughout, and compared at the tolerances of float64.
"""

import jax
import numpy as np
import pytest

from clipin_jax.core.learner import build
from clipin_jax.objectives.losses import sigmoid_contrastive
from tests.parity.compare import (
    FORWARD_TOLERANCE,
    GRADIENT_TOLERANCE,
    ZERO,
    Sketch,
    assert_close,
    deviation,
    key_biases,
    to_file_layout,
)
from tests.parity.configs import (
    config_without_target,
    model_section,
    text_transformer,
    vit,
)
from tests.parity.forward import channels_last
from tests.parity.golden_files import load
from tests.parity.names import SIGLIP

MODEL = "siglip_hf_tiny.npz"  # parameters and inputs, also of the other file
FILES = (MODEL, "siglip_hf_sdpa_tiny.npz")
SOFTMAX = {"eager": "float32", "sdpa": "float64"}  # dtype, by the kind of attention
TOLERANCES = {
    "float32": (1e-6, 5e-6),
    "float64": (FORWARD_TOLERANCE, GRADIENT_TOLERANCE),
}
HYPER = {"objectives": {"sigmoid": {"weight": 1.0}}}


def test_loss(golden_folder):
    file = load(golden_folder, "siglip_loss.npz")
    names = ("image_features", "text_features", "log_scale", "bias")

    def loss(image, text, log_scale, bias):
        return sigmoid_contrastive(jax.numpy.exp(log_scale) * image @ text.T + bias)

    gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3)))
    for case in sorted({name.partition("/")[0] for name in file.arrays}):
        arrays = file.section(f"{case}/")
        value, grads = gradient(*(arrays[name] for name in names))
        assert deviation(value, arrays["loss"]) < FORWARD_TOLERANCE, case
        for name, ours in zip(names, grads, strict=True):
            assert deviation(ours, arrays[f"grads/{name}"]) < GRADIENT_TOLERANCE, (
                case,
                name,
            )


def make_config(c):
    """Returns our config of the model that a file describes."""
    shared = dict(
        activation="gelu_tanh", norm_eps=c["layer_norm_eps"], initializer="xavier"
    )
    image = vit(
        c, mlp_ratio=c["v_mlp"] / c["v_width"], pool="map", patch_bias=True,
        pre_norm=False, **shared,
    )  # fmt: skip
    text = text_transformer(
        c, mlp_ratio=c["t_mlp"] / c["t_width"], causal=False, pool="last", **shared
    )
    projection = dict(image="none", text="linear")
    model = model_section(image, text, embed_dim=c["projection"], projection=projection)
    return config_without_target(model, sigmoid=1.0)


@pytest.fixture(scope="module")
def results(golden_folder):
    """Sizes, outputs by the names of transformers, and the gradient."""
    file = load(golden_folder, MODEL)
    learner, view = build(make_config(file.sizes)), read_view(file)

    def loss(params):
        variables = {"params": params}
        features = learner.apply(variables, view, method="encode")
        value, _ = learner.apply(variables, {"view1": view}, {"view1": {}}, HYPER)
        return value, features

    with jax.enable_x64(True):
        params = SIGLIP.to_tree(file.section("params/"))
        program = jax.jit(jax.value_and_grad(loss, has_aux=True))
        (value, features), grads = program(params)
        return file.sizes, named_outputs(params, features) | {"loss": value}, grads


def read_view(file):
    image = channels_last(file["inputs/images"])
    return {"image": image, "text": file["inputs/tokens"]}


def named_outputs(params, features):
    image, text = features["image"], features["text"]
    layer, scales = params["towers"]["text_projection"], params["objectives_sigmoid"]
    cosines = image["embedding"] @ text["embedding"].T
    logits = np.exp(scales["logit_scale"]) * cosines + scales["logit_bias"]
    return {
        "vision_last_hidden_state": image["tokens"],
        "vision_pooled": image["pooled"],
        "image_features": image["embedding"],
        "text_last_hidden_state": text["tokens"],
        "text_pooled": text["pooled"] @ layer["kernel"] + layer["bias"],
        "text_features": text["embedding"],
        "logits_per_image": logits,
    }


@pytest.mark.parametrize("name", FILES)
def test_transformers(golden_folder, results, name):
    file = load(golden_folder, name)
    sizes, outputs, gradient = results
    assert file.sizes == sizes
    softmax = SOFTMAX[file.meta["attn_implementation"]]
    forward_tolerance, gradient_tolerance = TOLERANCES[softmax]
    for key, ours in outputs.items():
        assert deviation(ours, file[f"out/{key}"]) < forward_tolerance, key
    wanted = file.section("grads/")
    ours = to_file_layout(gradient, wanted, SIGLIP.to_tree)
    noise = key_bias_noise(wanted, softmax)
    assert_close(ours, wanted, gradient_tolerance, key_biases, noise)


def key_bias_noise(grads, softmax):
    """Returns a bound of the file's gradients of key biases, which ought to be 0.

    They are 0 because the gradients of a softmax sum to 0. In float32 the sum has that
    dtype's rounding error.
    """
    if softmax == "float64":
        return ZERO
    largest = max(
        value.scale if isinstance(value, Sketch) else np.max(np.abs(value))
        for value in grads.values()
    )
    return float(np.finfo(softmax).eps * largest)
