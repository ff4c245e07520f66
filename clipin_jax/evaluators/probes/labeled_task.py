"""Two labelled sources: one that a classifier learns from, one it is scored on.

They may differ in their classes, as when a classifier of one data set is tried on
another: the numbering is that of the training source, and every class of the scored one
has a place in it, by its name or because the config says which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from clipin_jax.errors import ClipinError, did_you_mean
from clipin_jax.evaluators.metrics import scores
from clipin_jax.inference.encoder import Encoder, read_labels

Classes = Mapping[str, str] | Sequence[tuple[str, str]]


class Task(NamedTuple):
    """What to learn and what to score, with one numbering of K classes.

    Attributes:
      source, train_source: the scored images, and those to learn from.
      classes: the names of the K classes.
      labels, train_labels: [B] int where every image has one label, else [B, K] bool;
        both of the same kind.
    """

    source: Any
    train_source: Any
    classes: tuple[str, ...]
    labels: np.ndarray
    train_labels: np.ndarray

    @property
    def train_members(self) -> np.ndarray:
        """The labels to learn from as [B, K] bool."""
        return scores.members(self.train_labels, len(self.classes))

    def features(
        self, encode: Encoder, variables: Any, batch_size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pooled features, before any projection: to learn from, and scored.

        Returns two of [B, D] float32.
        """
        train, test = (
            encode.images(variables, source, batch_size)["pooled"]
            for source in (self.train_source, self.source)
        )
        return train, test


def make_task(source: Any, train_source: Any, classes: Classes = ()) -> Task:
    """Reads all labels, so that what is wrong with them shows before training.

    classes: for each class of `source` that `train_source` calls otherwise, its name
    there; several may have the same. A class that no training image shows cannot be
    learnt: with one label an image that is an error where `source` shows it; with
    several, its scores are what the classifier says all the same.

    Raises ClipinError when that or a class of `source` is unknown to `train_source`,
    there are fewer than two classes, the sources differ in their kind of label, or a
    label is missing or none of the classes.
    """
    names = tuple(train_source.classes)
    if len(names) < 2:
        raise ClipinError(
            f"train_source has {len(names)} classes: a classifier needs two or more;"
            " take a source with labels"
        )
    places = match_classes(source.classes, names, classes)
    train_labels = read_labels(train_source, len(names))
    own = read_labels(source, len(places))
    if train_labels.ndim != own.ndim:
        raise ClipinError(
            "one of source and train_source has one label an image, the other several:"
            " they must be of one kind"
        )
    labels = _renumbered(own, places, len(names))
    _check_shown(names, labels, train_labels)
    return Task(source, train_source, names, labels, train_labels)


def match_classes(
    own: Sequence[str], names: Sequence[str], classes: Classes = ()
) -> np.ndarray:
    """Where the classes of one source stand among those of another.

    own: names to find; names: where to find them; classes: for some of them the name to
    look for instead. Returns [len(own)] int. Raises ClipinError where there is none.
    """
    try:
        said = dict(classes)
    except (TypeError, ValueError) as error:
        raise ClipinError(
            "classes must say {name in source: name in train_source}, got"
            f" {classes!r}"
        ) from error
    for mine, theirs in said.items():
        if mine not in own:
            raise ClipinError(
                f"classes names {mine!r}, which source does not have:"
                f" {did_you_mean(str(mine), list(own))}"
            )
        if theirs not in names:
            raise ClipinError(
                f"classes says that {mine!r} is {theirs!r}, which train_source does not"
                f" have: {did_you_mean(str(theirs), list(names))}"
            )
    if not said and tuple(own) == tuple(names):
        return np.arange(len(names))  # also where two classes have one name
    missing = [name for name in own if name not in said and name not in names]
    if missing or not own:
        raise ClipinError(
            f"source has {len(own)} classes, train_source has {len(names)}, and"
            f" {', '.join(map(repr, missing[:5])) or 'none'} of source"
            f"{' and others are' if len(missing) > 5 else ' is'} not among the latter:"
            " say in `classes` what they are called there"
        )
    return np.array([list(names).index(said.get(name, name)) for name in own])


def _renumbered(labels: np.ndarray, places: np.ndarray, classes: int) -> np.ndarray:
    if labels.ndim == 1:
        return places[labels]
    belongs = np.zeros((len(labels), classes), bool)
    for own, place in enumerate(places):
        belongs[:, place] |= labels[:, own]
    return belongs


def _check_shown(
    names: Sequence[str], labels: np.ndarray, train_labels: np.ndarray
) -> None:
    counts, train_counts = (
        scores.members(y, len(names)).sum(axis=0) for y in (labels, train_labels)
    )
    if train_labels.ndim == 1:
        for name, wanted, shown in zip(names, counts, train_counts, strict=True):
            if wanted and not shown:
                raise ClipinError(
                    f"train_source has no image of {name!r}, source has {wanted}: a"
                    " class cannot be learnt from none; add some to train_source"
                )
    if (train_counts > 0).sum() < 2:
        shown = [name for name, n in zip(names, train_counts, strict=True) if n]
        raise ClipinError(
            f"all images of train_source are of one class, {', '.join(shown) or 'none'}"
            ": a classifier needs two or more"
        )
