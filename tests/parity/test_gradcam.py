"""ALBEF's Grad-CAM against ours, in float64."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.inference.saliency import make_map_fn
from clipin_jax.inference.saliency.attention_probe import AttentionProbe
from clipin_jax.inference.saliency.gradcam import grad_cam
from tests.parity.compare import FORWARD_TOLERANCE, GRADIENT_TOLERANCE, deviation
from tests.parity.host_runs import read_view
from tests.parity.momentum_run import CONTRASTIVE, TEMPERATURE

MATCHING, CONTRAST = "gradcam/itm_layer{}/", "gradcam/itc_block{}/"


class Explained(NamedTuple):
    """ALBEF after its last step, with images and texts of the file."""

    learner: object
    variables: dict
    image: np.ndarray
    text: np.ndarray

    def maps(self, method, layers):
        """Returns the maps of each layer, from one compiled program."""
        pair = self.image[:1], self.text[:1]
        functions = [make_map_fn(self.learner, *pair, method, i) for i in layers]

        @jax.jit
        def run(variables):
            return [f(variables, {}, self.image, self.text) for f in functions]

        return run(self.variables)

    def attention(self, forward, *place):
        """Returns the scores of `forward`, and (attention, gradient) of each layer."""

        @jax.jit
        def run(variables):
            probe = AttentionProbe(
                self.learner, forward, variables, self.image, self.text
            )
            layers = probe.layers(*place)

            def score(offsets):
                out, weights = probe.run(layers, offsets)
                return out.sum(), (out, weights)

            gradients, (out, weights) = jax.grad(score, has_aux=True)(
                [jnp.zeros(layer.shape) for layer in layers]
            )
            return out, list(zip(weights, gradients, strict=True))

        return run(self.variables)

    @property
    def temperature(self):
        """The temperature; the file divides contrastive scores by it, we do not."""
        value = self.variables["params"][CONTRASTIVE]["temperature"]["value"]
        return float(np.clip(value, *TEMPERATURE))


@pytest.fixture(scope="module")
def explained(albef):
    view = read_view(albef.file, "gradcam/inputs/")
    with jax.enable_x64(True):
        variables = {"params": albef.steps[-1].state.params}
    return Explained(albef.learner, variables, view["image"], view["text"])


def test_matching_maps(albef, explained):
    numbers, first = albef.file.list_numbers(MATCHING), albef.file.sizes["fusion_layer"]
    all_maps = explained.maps("matching", [number - first for number in numbers])
    for number, maps in zip(numbers, all_maps, strict=True):
        expected = albef.file.section(MATCHING.format(number))
        assert deviation(maps.tokens, expected["per_token"]) < GRADIENT_TOLERANCE
        assert deviation(maps.caption, expected["sentence"]) < GRADIENT_TOLERANCE


def test_contrastive_maps(albef, explained):
    blocks = albef.file.list_numbers(CONTRAST)
    for block, maps in zip(blocks, explained.maps("contrastive", blocks), strict=True):
        expected = albef.file[f"{CONTRAST.format(block)}map"]
        assert (
            deviation(maps.caption / explained.temperature, expected)
            < GRADIENT_TOLERANCE
        )


def match(m, image, text):
    """Returns the matching logits of pairs: [B]."""
    return m.match(text, m.encode({"image": image})["image"]["tokens"])


def cosine(m, image, text):
    """Returns the cosines of pairs: [B]."""
    features = m.encode({"image": image, "text": text})
    return (features["image"]["embedding"] * features["text"]["embedding"]).sum(-1)


def test_matching_attention(albef, explained):
    logit, layers = explained.attention(match, "text", (), "cross")
    for number in albef.file.list_numbers(MATCHING):
        expected = albef.file.section(MATCHING.format(number))
        weights, gradient = layers[number - albef.file.sizes["fusion_layer"]]
        assert deviation(logit, expected["logits"][:, 1]) < FORWARD_TOLERANCE
        assert deviation(weights, expected["attention"]) < FORWARD_TOLERANCE
        assert deviation(gradient, expected["attention_grad"]) < GRADIENT_TOLERANCE


def test_contrastive_attention(albef, explained):
    _, layers = explained.attention(cosine, "image", ("transformer",))
    for block in albef.file.list_numbers(CONTRAST):
        expected = albef.file.section(CONTRAST.format(block))
        weights, gradient = layers[block]
        gradient = gradient / explained.temperature
        assert deviation(weights, expected["attention"]) < FORWARD_TOLERANCE
        assert deviation(gradient, expected["attention_grad"]) < GRADIENT_TOLERANCE
        cam = grad_cam(weights, gradient)[:, 0, 1:]  # of the class token, to patches
        assert (
            deviation(cam.reshape(expected["map"].shape), expected["map"])
            < GRADIENT_TOLERANCE
        )
