"""CLIP's towers, logits, loss and gradients against open_clip, in float64."""

import jax
import numpy as np
import pytest

from clipin_jax.core.learner import build
from tests.parity.compare import assert_close, deviation, in_file_layout, key_biases
from tests.parity.configs import model_of, plain_config, text_transformer, vit
from tests.parity.golden_files import below, load
from tests.parity.names.clipin import open_clip_names, to_tree
from tests.parity.programs import FORWARD, GRADIENT, channels_last

ACTIVATIONS = {"gelu": "gelu", "quickgelu": "quick_gelu"}
HYPER = {"objectives": {"contrastive": {"weight": 1.0}}}


def config_of(c, activation):
    """The config of a file's model, at its sizes."""
    image, text = (make(c, activation=activation) for make in (vit, text_transformer))
    projection = dict(image="matrix", text="matrix")
    model = model_of(image, text, embed_dim=c["embed_dim"], projection=projection)
    return plain_config(model, contrastive=1.0)


def tree_of(arrays):
    return to_tree(open_clip_names(arrays))


@pytest.mark.parametrize("case", ACTIVATIONS)
def test_open_clip(golden_folder, case):
    file = load(golden_folder, "clip_vit_tiny.npz")
    expected = file.section(f"{case}/")
    learner = build(config_of(file.sizes, ACTIVATIONS[case]))
    view = {
        "image": channels_last(file["inputs/images"]),
        "text": file["inputs/tokens"],
    }

    def loss(params):
        variables = {"params": params}
        features = learner.apply(variables, view, method="encode")
        value, _ = learner.apply(variables, {"view1": view}, {"view1": {}}, HYPER)
        return value, features

    params = tree_of(file.below("params/"))
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
        assert deviation(ours, expected[name]) < FORWARD, name
    wanted = below(expected, "grads/")
    ours = in_file_layout(grads, wanted, tree_of)
    assert_close(ours, wanted, GRADIENT, key_biases)
