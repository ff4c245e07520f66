"""The two encoders of a model as pure functions, for formats that hold programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from ml_collections import ConfigDict

from clipin_jax.core.learner import build
from clipin_jax.core.parameter_paths import unflatten
from clipin_jax.errors import ClipinError
from clipin_jax.interop.exports.trained_model import TrainedModel
from clipin_jax.types import Array

MODALITIES = ("image", "text")
BATCHES = (1, 3)  # of the checks


class Encode(Protocol):
    """Encodes a batch."""

    def __call__(self, weights: Mapping[str, Any], inputs: Array) -> Array:
        """Returns [B, E] float32 of unit norm; weights: as in `Encoder`."""
        ...


class Encoder(NamedTuple):
    """One modality of a model.

    Attributes:
      encode: takes its weights and a batch of inputs.
      weights: name -> array, such as `params/towers/image/ln_post/scale`.
      shape: of one input: [H, W, 3] of pixels, or [L] of token ids.
      dtype: of inputs: uint8 pixels, which are normalised inside; int32 ids.
    """

    encode: Encode
    weights: Mapping[str, np.ndarray]
    shape: tuple[int, ...]
    dtype: np.dtype

    def example(self, batch_size: int) -> np.ndarray:
        """Returns random inputs, [batch_size, *shape]."""
        rng = np.random.default_rng(0)
        # Smaller than any vocabulary, and no padding.
        return rng.integers(1, 100, (batch_size, *self.shape)).astype(self.dtype)


def make_encoders(model: TrainedModel, **changes: Any) -> dict[str, Encoder]:
    """Returns the encoder of each modality.

    Attention runs on plain operations: kernels are of one platform. Layers are not
    scanned, which ONNX could not say.

    Args:
      model: that is exported.
      changes: of `config.model`, such as its `dtype`.

    Raises:
      ClipinError: the model has no joint space.
    """
    config: ConfigDict = model.config.copy_and_resolve_references().unlock()
    config.model.update(changes | dict(attention="plain", scan_layers=False))
    if not (config.model.embed_dim or config.model.embedding_from):
        raise ClipinError("the run has no joint space of images and texts to export")
    learner, data = build(config), config.data
    inputs = {
        "image": ((*data.image_size, 3), np.uint8),
        "text": ((data.context_length,), np.int32),
    }

    def encoder(modality: str) -> Encoder:
        def encode(weights: Mapping[str, Any], inputs: Array) -> Array:
            view = {modality: inputs}
            features: Any = learner.apply(unflatten(weights), view, method="encode")
            return features[modality]["embedding"].astype(np.float32)

        shape, dtype = inputs[modality]
        weights = _weights(model, modality, config.model.embedding_from)
        return Encoder(encode, weights, shape, np.dtype(dtype))

    return {modality: encoder(modality) for modality in MODALITIES}


def _weights(
    model: TrainedModel, modality: str, embedding_from: str
) -> dict[str, np.ndarray]:
    """Returns the arrays that one modality needs, by collection and path."""
    needed = [f"towers/{modality}"]
    needed += [f"objectives_{embedding_from}/"] if embedding_from else []
    return {
        f"{collection}/{path}": value
        for collection in model.variables
        for path, value in model.collection(collection).items()
        if path.startswith(tuple(needed))
    }
