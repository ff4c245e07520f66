"""Small models with random weights, in place of trained ones."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from clipin_jax.config import load_config
from clipin_jax.interop.exports.trained_model import (
    Facts,
    Score,
    TrainedModel,
    trained_model,
)
from clipin_jax.interop.initial_weights import start_from
from clipin_jax.interop.open_model import open_model
from clipin_jax.runs.build import Experiment, build_experiment

FACTS = Facts(
    name="first",
    step=4,
    scores=(Score("retrieval/R@1", "25.0%", "0.5%"),),
    command="clipin export first@4 out --to huggingface",
    license="other",
)
TEXTS = ("a red star", "Two small blue rings, above a cross!", "x")
SMALL = (
    "batch_size=8", "model.image.depth=1", "model.text.depth=2",
    "model.image.width=32", "model.text.width=32", "model.embed_dim=24",
    "model.image.num_heads=2", "model.text.num_heads=2",
    "model.text.context_length=16",
)  # fmt: skip


class Trained(NamedTuple):
    """A model, and the features of images and texts that others have to give.

    Attributes:
      model: for the exports.
      images: [3, H, W, 3] uint8.
      tokens: [3, L] int32, of `TEXTS`.
      image_features, text_features: [3, E] float32.
    """

    model: TrainedModel
    images: np.ndarray
    tokens: np.ndarray
    image_features: np.ndarray
    text_features: np.ndarray


@functools.lru_cache(32)
def trained_model_of(spec: str, *overrides: str) -> TrainedModel:
    """Returns a model of a config with random weights; compiles nothing."""
    experiment = build(spec, *overrides)
    rng = np.random.default_rng(0)

    def draw(path: Any, like: Any) -> np.ndarray:
        width = like.shape[0] if str(path[-1]).count("kernel") else 100
        value = rng.normal(size=like.shape) * width**-0.5
        if str(path[-1]).count("scale") or str(path[-1]).count("var"):
            value = 1 + np.abs(value)
        return value.astype(like.dtype)

    variables = jax.tree_util.tree_map_with_path(
        draw, experiment.abstract_state.variables
    )
    return trained_model(experiment.config, variables, FACTS)


@functools.lru_cache(32)
def build(spec: str, *overrides: str) -> Experiment:
    """Returns the experiment of a config, on one device."""
    config = load_config(spec, overrides)
    return build_experiment(config, devices=jax.devices()[:1])


@functools.lru_cache(8)
def trained(spec: str, *overrides: str) -> Trained:
    """Returns a model with its features of random images and of `TEXTS`."""
    model = trained_model_of(spec, *overrides)
    learner = build(spec, *overrides).learner
    size = model.config.data.image_size
    images = np.random.default_rng(1).integers(0, 256, (3, *size, 3), dtype=np.uint8)
    tokens = model.tokenizer(TEXTS)
    encode = jax.jit(lambda v, x: learner.apply(v, x, method="encode"))
    features: Any = encode(model.variables, {"image": images, "text": tokens})
    image, text = (np.asarray(features[m]["embedding"]) for m in ("image", "text"))
    return Trained(model, images, tokens, image, text)


def start_from_export(source: Path, spec: str, *overrides: str) -> TrainedModel:
    """Returns the model of a run of zeros after it has read weights."""
    experiment = build(spec, *overrides)
    zeros = jax.tree.map(
        lambda like: jax.device_put(np.zeros(like.shape, like.dtype), like.sharding),
        experiment.abstract_state,
    )
    state = start_from(zeros, open_model(str(source)), experiment.config)
    return trained_model(experiment.config, state.variables, FACTS)


def assert_same_arrays(one: TrainedModel, other: TrainedModel) -> None:
    """Compares two models bit for bit."""
    arrays = one.arrays
    assert arrays.keys() == other.arrays.keys()
    for path, value in other.arrays.items():
        np.testing.assert_array_equal(arrays[path], value, err_msg=path)
