"""Labels and captions of all records of a source, read before anything is scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from clipin_jax.data.source import Annotations, BadRecord, Source
from clipin_jax.errors import ClipinError


def read_annotations(source: Source, index: int) -> Annotations:
    """Returns the annotations of a record.

    Raises:
      ClipinError: they cannot be read.
    """
    try:
        return source.annotations(index)
    except (BadRecord, OSError) as error:
        raise ClipinError(
            f"record {index}, {source.describe(index)}, cannot be used: {error}."
            " Evaluation needs every record: fix it, or remove it from the source"
        ) from error


def read_captions(source: Source, max_captions: int) -> tuple[list[str], np.ndarray]:
    """Returns all captions of a source, and the image of each: T strings, [T] int.

    Args:
      source: records with captions.
      max_captions: how many captions to read per image, the first ones; 0 for all.

    Raises:
      ClipinError: a record cannot be read, or has no caption.
    """
    captions: list[str] = []
    image_of_caption: list[int] = []
    for index in range(len(source)):
        texts = read_annotations(source, index)["captions"][: max_captions or None]
        if not texts:
            raise ClipinError(
                f"record {index}, {source.describe(index)}, has no caption: give it"
                " one, or remove it from the source"
            )
        captions += texts
        image_of_caption += [index] * len(texts)
    return captions, np.asarray(image_of_caption)


def read_labels(source: Source, num_classes: int) -> np.ndarray:
    """Returns the labels of a source: [B] int if each record has one, else [B, K] bool.

    Args:
      source: records whose label is an int, or a sequence of any number of them.
      num_classes: K.

    Raises:
      ClipinError: a record cannot be read, has no label, or one that is no class.
    """
    labels = [read_annotations(source, i).get("label") for i in range(len(source))]
    members = np.zeros((len(labels), num_classes), bool)
    for index, label in enumerate(labels):
        if label is None:
            raise ClipinError(
                f"record {index}, {source.describe(index)}, has no label:"
                " classification needs one for every image"
            )
        for value in np.atleast_1d(np.asarray(label, np.int64)):
            if not 0 <= value < num_classes:
                raise ClipinError(
                    f"record {index}, {source.describe(index)}, has label {value}, but"
                    f" there are {num_classes} classes (0 to {num_classes - 1})"
                )
            members[index, value] = True
    return np.asarray(labels) if _is_single(labels) else members


def _is_single(labels: Sequence[Any]) -> bool:
    return all(np.ndim(label) == 0 for label in labels)
