"""Grad-CAM of ALBEF's own code, number by number, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.inference.saliency import make_map_fn
from clipin_jax.inference.saliency.methods import _image_embedding, _match, grad_cam
from clipin_jax.inference.saliency.probe import Probe
from tests.parity.compare import deviation
from tests.parity.test_albef import run_of
from tests.parity.torch_names import below, load

FORWARD, GRADIENT = 1e-11, 1e-10


@pytest.fixture(scope="module", autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def golden(golden_folder):
    """The learner, its variables after two steps, images and texts; the file's maps."""
    arrays, meta = load(golden_folder, "albef_tiny.npz")
    run, inputs = run_of(arrays, meta), below(arrays, "gradcam/inputs/")
    variables = {"params": run.tree("step2/params/")}
    pair = inputs["images"].transpose(0, 2, 3, 1), inputs["input_ids"]
    return run.learner, variables, pair, below(arrays, "gradcam/")


def map_fn(learner, pair, method, layer):
    return make_map_fn(learner, pair[0][:1], pair[1][:1], method, layer)


def temperature(variables):
    """The scale of the file's scores; the cosine's own is 1."""
    (value,) = variables["params"]["objectives_momentum_contrastive"][
        "temperature"
    ].values()
    return float(np.clip(value, 0.001, 0.5))


@pytest.mark.parametrize("layer", [0, 1])
def test_matching_maps_are_those_of_the_reference(golden, layer):
    learner, variables, pair, expected = golden
    expected = below(expected, f"itm_layer{2 + layer}/")
    maps = map_fn(learner, pair, "matching", layer)(variables, {}, *pair)
    assert deviation(maps.tokens, expected["per_token"]) < GRADIENT
    assert deviation(maps.caption, expected["sentence"]) < GRADIENT


@pytest.mark.parametrize("layer", [0, 1])
def test_contrastive_maps_are_those_of_the_reference(golden, layer):
    learner, variables, pair, expected = golden
    expected = below(expected, f"itc_block{layer}/")
    maps = map_fn(learner, pair, "contrastive", layer)(variables, {}, *pair)
    ours = maps.caption / temperature(variables)
    assert deviation(ours, expected["map"]) < GRADIENT


def test_attention_and_its_gradient_are_those_of_the_reference(golden):
    learner, variables, pair, expected = golden
    probe = Probe(learner, _match, variables, *pair)
    for number, layer in enumerate(probe.layers("text", (), "cross")):
        wanted = below(expected, f"itm_layer{2 + number}/")

        def score(move, layer=layer):
            out, (weights,) = probe.run([layer], [move])
            return out.sum(), (out, weights)

        gradient, (logit, weights) = jax.grad(score, has_aux=True)(
            jnp.zeros(layer.shape)
        )
        assert deviation(logit, wanted["logits"][:, 1]) < FORWARD
        assert deviation(weights, wanted["attention"]) < FORWARD
        assert deviation(gradient, wanted["attention_grad"]) < GRADIENT


def test_contrastive_attention_is_that_of_the_reference(golden):
    learner, variables, pair, expected = golden
    probe = Probe(learner, _image_embedding, variables, *pair)
    for number, layer in enumerate(probe.layers("image", ("transformer",))):
        wanted = below(expected, f"itc_block{number}/")
        (weights,) = probe.weights([layer])
        assert deviation(weights, wanted["attention"]) < FORWARD
        cam = grad_cam(wanted["attention"], wanted["attention_grad"])[:, 0, 1:]
        assert deviation(cam.reshape(-1, 4, 4), wanted["map"]) < FORWARD
