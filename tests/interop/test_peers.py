"""Features of timm and open_clip themselves, see `bench/foreign_numbers.py`."""

import functools
import math

import jax
import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from tests.parity.golden_files import load_json
from tests.parity.normal_draws import Draw
from tests.support.golden_models import Started, write_state_dict

PAGE = "clip:runlocal"
HEADS = ("model.image.num_heads=2", "model.text.num_heads=2")


@pytest.fixture(scope="module")
def numbers(golden_folder):
    return load_json(golden_folder, "foreign_tiny.json")


def drawn_weights(numbers, name):
    """Returns the arrays of a model: parts of one row of normal numbers."""
    arrays = numbers[name]["arrays"]
    sizes = [math.prod(shape) for _, shape in arrays]
    row = Draw(0.0, numbers["std"], numbers["weight_seed"], 0).numbers(sum(sizes))
    parts = np.split(row.astype(np.float32), np.cumsum(sizes)[:-1])
    return {
        key: np.asarray(part.reshape(shape) + (len(shape) == 1 and "weight" in key))
        for part, (key, shape) in zip(parts, arrays, strict=True)
    }


def drawn_images(numbers):
    """Returns [3, 3, H, W] normal numbers."""
    shape = 3, 3, numbers["image"], numbers["image"]
    draw = Draw(0.0, 1.0, numbers["image_seed"], 0)
    return draw.numbers(math.prod(shape)).reshape(shape)


@pytest.mark.parametrize("pool", ["token", "map"])
def test_timm(numbers, tmp_path, pool):
    name = f"timm {pool}"
    path = write_state_dict(tmp_path / "vit.pth", drawn_weights(numbers, name))
    text = "model.text.width=24", "model.text.depth=1"
    started = Started(path, PAGE, *HEADS, *text, parts=("image",))
    image = drawn_images(numbers).transpose(0, 2, 3, 1).astype(np.float32)
    encode = functools.partial(started.experiment.learner.apply, method="encode")
    with jax.set_mesh(started.experiment.mesh):
        features = jax.jit(encode)(started.state.variables, {"image": image})
    expected = np.array(numbers[name]["image"])
    assert np.abs(features["image"]["pooled"] - expected).max() < 1e-5
    assert np.abs(expected[0] - expected[1]).max() > 0.1


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_open_clip(numbers, tmp_path, activation):
    name = f"open_clip {activation}"
    path = write_state_dict(tmp_path / "clip.pt", drawn_weights(numbers, name))
    both = [f"model.{part}.activation={activation}" for part in ("image", "text")]
    started = Started(path, PAGE, *HEADS, *both)
    text = np.array(numbers["text"])
    features = started.features(drawn_images(numbers), text)
    for ours, kind in zip(features, ("image", "text"), strict=True):
        assert np.abs(ours - np.array(numbers[name][kind])).max() < 1e-5, kind
    other = np.array(numbers[f"open_clip {_other(activation)}"]["image"])
    assert np.abs(features[0] - other).max() > 1e-3  # the activation shows


def _other(activation):
    return "quick_gelu" if activation == "gelu" else "gelu"


def test_mean_pooling_of_timm_has_another_norm(numbers, tmp_path):
    """timm's norm comes after the mean, as `fc_norm`; ours before it."""
    arrays = drawn_weights(numbers, "timm token")
    del arrays["cls_token"]
    arrays["pos_embed"] = arrays["pos_embed"][:, 1:]
    for leaf in ("weight", "bias"):
        arrays[f"fc_norm.{leaf}"] = arrays.pop(f"norm.{leaf}")
    path = write_state_dict(tmp_path / "vit.pth", arrays)
    text = "model.text.width=24", "model.text.depth=1"
    with pytest.raises(ClipinError, match="ln_post|fc_norm"):
        Started(path, PAGE, *HEADS, *text, parts=("image",))
