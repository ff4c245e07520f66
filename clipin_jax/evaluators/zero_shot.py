"""Zero-shot classification: classes are named by prompts, nothing is trained."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.special import softmax

from clipin_jax.errors import first_few
from clipin_jax.evaluators.base import CLASSIFICATION, Figure
from clipin_jax.evaluators.datasets.prompts import choose_names, choose_prompts
from clipin_jax.evaluators.metrics import scores
from clipin_jax.inference.encoder import Encoder, read_labels

# CLIP's own temperature at its bound; it decides nothing but the probabilities.
LOGIT_SCALE = 100.0
PROMPTS = 8192  # encoded at a time
_log = logging.getLogger(__name__)


class ZeroShot:
    """Accuracy, mean per-class recall, macro AUC and mAP of prompts as classifier.

    Every prompt is encoded and normalised, the prompts of a class are averaged, and
    the average is normalised again (Radford et al. 2021, section 3.1.4). AUC and mAP
    are given of the softmax over classes, as CLIPin reports them, and of the cosines:
    the softmax compares an image's classes with each other, so that it puts the images
    of one class in another order.
    """

    task = "zeroshot_classification"
    figures = {
        **CLASSIFICATION,
        "macro_auc_cosine": Figure("{:.3f}"),
        "mean_average_precision_cosine": Figure("{:.3f}"),
    }
    benchmark_keys = {
        "acc1": "accuracy",
        "acc5": "top5_accuracy",
        "mean_per_class_recall": "mean_per_class_recall",
        "mean_average_precision": "mean_average_precision_cosine",
    }

    def __init__(
        self,
        encode: Encoder,
        *,
        source: Any,
        batch_size: int = 256,
        classes: Sequence[str] = (),
        templates: Sequence[str] = (),
        dataset: str = "",
        names_file: str = "",
        templates_file: str = "",
        similarity: str = "contrastive",
    ) -> None:
        """Reads the labels, so that what is wrong with them shows before training.

        classes: names shown in the prompts, in label order, underscores included;
        () takes those of `names_file`, of `dataset`, or the source's own.
        templates: prompts, "{}" is where the name goes; () takes those of
        `templates_file`, of `dataset`, or the bare name.
        dataset: a set whose names and templates the package has, or its key in the
        files. names_file, templates_file: see `prompts`. similarity: see
        `Encoder.compared`.
        Raises ClipinError for names that do not fit the source, a template without
        "{}", a label that is missing or none of the classes, or a model that cannot
        compare so.
        """
        self.source = source
        self.classes = choose_names(source.classes, classes, names_file, dataset)
        self._prompts = choose_prompts(self.classes, templates, templates_file, dataset)
        self._compared = encode.compared(similarity)
        self._batch_size = batch_size
        self._labels = read_labels(source, len(self.classes))
        self._say_empty()

    def run(self, state: Any) -> Iterator[tuple[str, float]]:
        """Yields (name, value); `chance/<name>` says what a random guess gets."""
        image = self._compared.images(state, self.source, self._batch_size)
        classifier, which = self._classifier(state)
        # Classes with the same prompts tie to the last bit.
        cosine = (image @ classifier.T).astype(np.float64)[:, which]  # [B, K]
        probabilities = softmax(LOGIT_SCALE * cosine, axis=1)
        found = scores.classification_scores(self._labels, probabilities)
        yield from found.items()
        belongs = scores.members(self._labels, len(self.classes))
        by_cosine = {
            "macro_auc": scores.macro_roc_auc(belongs, cosine),
            "mean_average_precision": scores.macro_average_precision(belongs, cosine),
        }
        for name, score in by_cosine.items():
            yield f"{name}_cosine", score.value
            yield f"chance/{name}_cosine", found[f"chance/{name}"]

    def _classifier(self, state: Any) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors [U, E] float32 and which of them each class has, [K] int."""
        place = {own: i for i, own in enumerate(dict.fromkeys(self._prompts))}
        different = list(place)
        # As many prompts at a time as keep the features small, whatever their width.
        classes = max(1, PROMPTS // max(map(len, different)))
        rows = []
        for start in range(0, len(different), classes):
            own = different[start : start + classes]
            texts = [text for prompts in own for text in prompts]
            found = self._compared.texts(state, texts, self._batch_size)
            ends = np.cumsum([len(prompts) for prompts in own])
            rows += [part.mean(axis=0) for part in np.split(found, ends[:-1])]
        mean = np.stack(rows)
        unit = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return unit, np.asarray([place[own] for own in self._prompts])

    def _say_empty(self) -> None:
        occurring = scores.members(self._labels, len(self.classes)).any(axis=0)
        empty = [self.classes[i] for i in np.flatnonzero(~occurring)]
        if empty:
            warn_once(
                f"{len(empty)} of {len(self.classes)} classes ({first_few(empty)}) "
                f"have no image in the data of {self.source.describe(0)}: macro "
                "figures leave them out"
            )


@functools.cache
def warn_once(text: str) -> None:
    """Logs a warning, the same one only once: many entries of a suite share data."""
    _log.warning("%s", text)
