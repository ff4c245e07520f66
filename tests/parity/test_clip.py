"""CLIP's towers, logits, loss and gradients against open_clip, in float64."""

import jax
import numpy as np
import pytest

from clipin_jax.core.learner import build
from tests.parity.compare import (
    FORWARD_TOLERANCE,
    GRADIENT_TOLERANCE,
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
from tests.parity.golden_files import load, select_prefix
from tests.parity.names import CLIP

ACTIVATIONS = {"gelu": "gelu", "quickgelu": "quick_gelu"}
HYPER = {"objectives": {"contrastive": {"weight": 1.0}}}


def make_config(c, activation):
    """Returns our config of the model that a file describes."""
    image, text = (make(c, activation=activation) for make in (vit, text_transformer))
    projection = dict(image="matrix", text="matrix")
    model = model_section(image, text, embed_dim=c["embed_dim"], projection=projection)
    return config_without_target(model, contrastive=1.0)


@pytest.mark.parametrize("case", ACTIVATIONS)
def test_open_clip(golden_folder, case):
    file = load(golden_folder, "clip_vit_tiny.npz")
    expected = file.section_or_skip(f"{case}/")
    learner = build(make_config(file.sizes, ACTIVATIONS[case]))
    view = {
        "image": channels_last(file["inputs/images"]),
        "text": file["inputs/tokens"],
    }

    def loss(params):
        variables = {"params": params}
        features = learner.apply(variables, view, method="encode")
        value, _ = learner.apply(variables, {"view1": view}, {"view1": {}}, HYPER)
        return value, features

    params = CLIP.to_tree(file.section("params/"))
    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (value, features), grads = step(params)
    image, text = features["image"]["embedding"], features["text"]["embedding"]
    for name, ours in {
        "image_features": image,
        "text_features": text,
        "act/ln_final": features["text"]["tokens"],
        "logits_per_image": np.exp(file["params/logit_scale"]) * image @ text.T,
        "loss": value,
    }.items():
        assert deviation(ours, expected[name]) < FORWARD_TOLERANCE, name
    wanted = select_prefix(expected, "grads/")
    ours = to_file_layout(grads, wanted, CLIP.to_tree)
    assert_close(ours, wanted, GRADIENT_TOLERANCE, key_biases)
