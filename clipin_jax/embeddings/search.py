"""Finds the vectors of a file that are nearest to an image or a text."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clipin_jax import storage
from clipin_jax.data.formats.image_files import ENDINGS, ending
from clipin_jax.embeddings.files import Embeddings
from clipin_jax.embeddings.rows import Row
from clipin_jax.errors import ClipinError
from clipin_jax.inference.model import Model

_BLOCK = 65_536  # vectors read at a time


class Hit(NamedTuple):
    """A vector near the query.

    Attributes:
      cosine: with the query.
      row: what is known of it.
    """

    cosine: float
    row: Row


def search(model: Model, embeddings: Embeddings, query: str, top: int = 5) -> list[Hit]:
    """Returns the nearest vectors, the best first; equal ones in the file's order.

    Args:
      model: the one that made the embeddings.
      embeddings: of `files.read_embeddings`.
      query: a text; or the path of an image, if there is such a file.
      top: how many, at most.

    Raises:
      ClipinError: embeddings of another model, a name of an image that is no file, a
        query without a word, or a `top` below 1.
    """
    check_model(model, embeddings)
    if top < 1:
        raise ClipinError(f"top is {top}: it must be at least 1")
    numbers, cosines = _nearest(embeddings.vectors, _encode(model, query), top)
    return [
        Hit(float(cosine), embeddings.row(int(number)))
        for number, cosine in zip(numbers, cosines, strict=True)
    ]


def check_model(model: Model, embeddings: Embeddings) -> None:
    """Raises ClipinError unless a model made the embeddings."""
    origin = embeddings.origin
    if (model.fingerprint, model.width) == (origin.fingerprint, origin.width):
        return
    raise ClipinError(
        f"the embeddings are of another model: {origin.model} (width {origin.width}, "
        f"fingerprint {origin.fingerprint}), not {model.name} (width {model.width}, "
        f"fingerprint {model.fingerprint}); cosines between them mean nothing"
    )


def is_image_query(query: str) -> bool:
    """Tells whether a query is an image file. Raises ClipinError if it is missing."""
    if storage.exists(storage.full_path(query)):
        return True
    if ending(query) in ENDINGS and " " not in query:
        raise ClipinError(f"image file {query} does not exist")
    return False


def _encode(model: Model, query: str) -> np.ndarray:
    if is_image_query(query):
        return model.encode_image(query)[0]
    if not query.strip():
        raise ClipinError("the query is empty: give a text, or an image file")
    return model.encode_text(query)[0]


def _nearest(
    vectors: np.ndarray, query: np.ndarray, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the numbers of the nearest vectors, and their cosines."""
    numbers, cosines = np.zeros(0, np.int64), np.zeros(0, np.float32)
    for start in range(0, len(vectors), _BLOCK):
        block = np.asarray(vectors[start : start + _BLOCK])
        numbers = np.append(numbers, np.arange(start, start + len(block)))
        cosines = np.append(cosines, block @ query)
        best = np.argsort(-cosines, kind="stable")[:top]
        numbers, cosines = numbers[best], cosines[best]
    return numbers, cosines
