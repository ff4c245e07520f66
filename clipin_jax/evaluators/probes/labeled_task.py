"""Labels to learn and labels to score, with one numbering of the classes.

The two sources may have different classes, as when a classifier of one data set is
scored on another. The numbering is that of the training source. Each class of the
scored source is looked up there by its name, or by a name from the config.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from clipin_jax.data.source import Source
from clipin_jax.errors import ClipinError, did_you_mean
from clipin_jax.evaluators.datasets.annotations import read_labels
from clipin_jax.evaluators.metrics import scores

Classes = Mapping[str, str] | Sequence[tuple[str, str]]


class LabeledTask(NamedTuple):
    """The labels to learn and to score.

    Attributes:
      classes: names of the K classes.
      labels: of the scored samples, [B] int if each has one label, else [B, K] bool.
      train_labels: of the samples to learn from, of the same kind.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    train_labels: np.ndarray

    @property
    def train_members(self) -> np.ndarray:
        """The labels to learn from as [B, K] bool."""
        return scores.members(self.train_labels, len(self.classes))


def make_task(
    source: Source, train_source: Source, classes: Classes = ()
) -> LabeledTask:
    """Reads all labels.

    A class without training images cannot be learned. If images have one label, a class
    that only `source` has is an error. If they have several, it is scored anyway.

    Args:
      source: samples to score.
      train_source: samples to learn from.
      classes: name in `source` -> name in `train_source`, for classes whose names
        differ; several may have the same.

    Raises:
      ClipinError: a class of `source` that `train_source` does not have, fewer than two
        classes, sources with different kinds of labels, or a label that is
        missing or no class.
    """
    names = tuple(train_source.classes)
    if len(names) < 2:
        raise ClipinError(
            f"train_source has {len(names)} classes: a classifier needs two or more;"
            " take a source with labels"
        )
    class_indices = match_classes(source.classes, names, classes)
    train_labels = read_labels(train_source, len(names))
    source_labels = read_labels(source, len(class_indices))
    if train_labels.ndim != source_labels.ndim:
        raise ClipinError(
            "one of source and train_source has one label per image, the other several:"
            " they must be of one kind"
        )
    labels = _renumber(source_labels, class_indices, len(names))
    _check_shown(names, labels, train_labels)
    return LabeledTask(names, labels, train_labels)


def match_classes(
    source_names: Sequence[str], train_names: Sequence[str], classes: Classes = ()
) -> np.ndarray:
    """Returns the index of each class of one source among those of another.

    Args:
      source_names: names to look up.
      train_names: names of the other source.
      classes: name in `source_names` -> name in `train_names`, if they differ.

    Returns:
      [len(source_names)] int.

    Raises:
      ClipinError: `train_names` has no such class.
    """
    try:
        renamed = dict(classes)
    except (TypeError, ValueError) as error:
        raise ClipinError(
            "classes must say {name in source: name in train_source}, got"
            f" {classes!r}"
        ) from error
    for name, train_name in renamed.items():
        if name not in source_names:
            raise ClipinError(
                f"classes names {name!r}, which source does not have:"
                f" {did_you_mean(str(name), list(source_names))}"
            )
        if train_name not in train_names:
            raise ClipinError(
                f"classes says that {name!r} is {train_name!r}, which train_source does"
                f" not have: {did_you_mean(str(train_name), list(train_names))}"
            )
    if not renamed and tuple(source_names) == tuple(train_names):
        # Also correct if two classes have the same name.
        return np.arange(len(train_names))
    missing = [n for n in source_names if n not in renamed and n not in train_names]
    if missing or not source_names:
        raise ClipinError(
            f"source has {len(source_names)} classes, train_source has"
            f" {len(train_names)}, and"
            f" {', '.join(map(repr, missing[:5])) or 'none'} of source"
            f"{' and others are' if len(missing) > 5 else ' is'} not among the latter:"
            " give their names there in `classes`"
        )
    return np.array(
        [list(train_names).index(renamed.get(name, name)) for name in source_names]
    )


def _renumber(labels: np.ndarray, indices: np.ndarray, num_classes: int) -> np.ndarray:
    if labels.ndim == 1:
        return indices[labels]
    members = np.zeros((len(labels), num_classes), bool)
    for column, index in enumerate(indices):
        members[:, index] |= labels[:, column]
    return members


def _check_shown(
    names: Sequence[str], labels: np.ndarray, train_labels: np.ndarray
) -> None:
    counts, train_counts = (
        scores.members(y, len(names)).sum(axis=0) for y in (labels, train_labels)
    )
    if train_labels.ndim == 1:
        for name, count, train_count in zip(names, counts, train_counts, strict=True):
            if count and not train_count:
                raise ClipinError(
                    f"train_source has no image of {name!r}, source has {count}: a"
                    " class cannot be learned from none; add some to train_source"
                )
    if (train_counts > 0).sum() < 2:
        shown = [name for name, n in zip(names, train_counts, strict=True) if n]
        raise ClipinError(
            f"all images of train_source are of one class, {', '.join(shown) or 'none'}"
            ": a classifier needs two or more"
        )
