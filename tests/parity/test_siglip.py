"""The sigmoid loss against open_clip, SigLIP's towers against transformers, float64.

Eager attention of transformers computes its softmax in float32, whatever the dtype of
the model. Results of such a run are held to the tolerances of float32, those of `sdpa`
attention, in float64 throughout, to those of float64.
"""

import jax
import numpy as np
import pytest

from clipin_jax.core.learner import build
from clipin_jax.objectives.losses import sigmoid_contrastive
from tests.parity.compare import (
    ZERO,
    Sketch,
    assert_close,
    deviation,
    in_file_layout,
    key_biases,
)
from tests.parity.configs import model_of, plain_config, text_transformer, vit
from tests.parity.golden_files import load
from tests.parity.names.siglip import to_tree
from tests.parity.programs import FORWARD, GRADIENT, channels_last

MODEL = "siglip_hf_tiny.npz"  # parameters and inputs, also of the other file
FILES = (MODEL, "siglip_hf_sdpa_tiny.npz")
SOFTMAX = {"eager": "float32", "sdpa": "float64"}  # by the implementation of attention
TOLERANCES = {"float32": (1e-6, 5e-6), "float64": (FORWARD, GRADIENT)}
HYPER = {"objectives": {"sigmoid": {"weight": 1.0}}}


def test_loss(golden_folder):
    file = load(golden_folder, "siglip_loss.npz")
    names = ("image_features", "text_features", "log_scale", "bias")

    def loss(image, text, log_scale, bias):
        return sigmoid_contrastive(jax.numpy.exp(log_scale) * image @ text.T + bias)

    gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3)))
    for case in sorted({name.partition("/")[0] for name in file.arrays}):
        arrays = file.below(f"{case}/")
        value, grads = gradient(*(arrays[name] for name in names))
        assert deviation(value, arrays["loss"]) < FORWARD, case
        for name, ours in zip(names, grads, strict=True):
            assert deviation(ours, arrays[f"grads/{name}"]) < GRADIENT, (case, name)


def config_of(c):
    """The config of a file's model, at its sizes."""
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
    model = model_of(image, text, embed_dim=c["projection"], projection=projection)
    return plain_config(model, sigmoid=1.0)


@pytest.fixture(scope="module")
def results(golden_folder):
    """Sizes, outputs under the names of transformers, and the gradient."""
    file = load(golden_folder, MODEL)
    learner, view = build(config_of(file.sizes)), view_of(file)

    def loss(params):
        variables = {"params": params}
        features = learner.apply(variables, view, method="encode")
        value, _ = learner.apply(variables, {"view1": view}, {"view1": {}}, HYPER)
        return value, features

    with jax.enable_x64(True):
        params = to_tree(file.below("params/"))
        program = jax.jit(jax.value_and_grad(loss, has_aux=True))
        (value, features), grads = program(params)
        return file.sizes, outputs_of(params, features) | {"loss": value}, grads


def view_of(file):
    image = channels_last(file["inputs/images"])
    return {"image": image, "text": file["inputs/tokens"]}


def outputs_of(params, features):
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
    wanted = file.below("grads/")
    ours = in_file_layout(gradient, wanted, to_tree)
    noise = key_bias_noise(wanted, softmax)
    assert_close(ours, wanted, gradient_tolerance, key_biases, noise)


def key_bias_noise(grads, softmax):
    """Bound of the file's gradients of key biases, which ought to be 0.

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
