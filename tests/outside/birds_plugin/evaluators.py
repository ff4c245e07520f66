"""An evaluator of how well the embeddings of images separate classes."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from clipin_jax.data.source import Source
from clipin_jax.evaluators.base import Figure
from clipin_jax.evaluators.datasets.annotations import read_labels
from clipin_jax.inference.encoder import Encoder


class Separation:
    """How much closer two images of one class are than two of different classes."""

    task = "separation"
    figures = {"separation": Figure("{:.3f}", headline=True)}

    def __init__(self, encoder: Encoder, *, source: Source, batch_size: int = 256):
        self._encoder, self._source, self._batch_size = encoder, source, batch_size
        labels = read_labels(source, len(source.classes))
        self._same = np.equal.outer(labels, labels)

    def run(self, state: Any) -> Iterator[tuple[str, float]]:
        features = self._encoder.images(state, self._source, self._batch_size)
        cosine = features["embedding"] @ features["embedding"].T
        pairs = ~np.eye(len(cosine), dtype=bool)  # no image with itself
        same, different = cosine[self._same & pairs], cosine[~self._same]
        yield "separation", float(same.mean() - different.mean())
        yield "chance/separation", 0.0
