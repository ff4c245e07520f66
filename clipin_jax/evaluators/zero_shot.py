"""Zero-shot classification: prompts name the classes, nothing is trained."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Sequence

import numpy as np

from clipin_jax.data.source import Source
from clipin_jax.errors import first_few
from clipin_jax.evaluators.base import CLASSIFICATION, Figure
from clipin_jax.evaluators.datasets.annotations import read_labels
from clipin_jax.evaluators.metrics import scores
from clipin_jax.inference.class_vectors import class_cosines, class_probabilities
from clipin_jax.inference.encode_fns import ModelState
from clipin_jax.inference.encoder import Encoder
from clipin_jax.inference.prompts import choose_names, choose_prompts

_log = logging.getLogger(__name__)


class ZeroShot:
    """Accuracy, mean per-class recall, macro AUC and mAP with prompts as classifier.

    The classifier is that of `inference.class_vectors`. AUC and mAP are computed from
    the softmax over classes, as CLIPin reports them, and from the cosines (metrics with
    `_cosine`). The two differ: the softmax normalizes over the classes of an image,
    which changes the order of the images within a class.
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
        encoder: Encoder,
        *,
        source: Source,
        batch_size: int = 256,
        classes: Sequence[str] = (),
        templates: Sequence[str] = (),
        dataset: str = "",
        names_file: str = "",
        templates_file: str = "",
        similarity: str = "contrastive",
    ) -> None:
        """Reads the labels and makes the prompts.

        Args:
          encoder: of the model.
          source: images with labels.
          batch_size: images or prompts encoded at a time.
          classes: names shown in the prompts, in label order; () for the names in
            `names_file`, of `dataset`, or of the source.
          templates: prompts, with "{}" for the name; () for those in `templates_file`,
            of `dataset`, or the bare name.
          dataset: its key in the files, or a data set that the package knows.
          names_file: JSON with class names by `dataset`, as CLIP_benchmark writes it.
          templates_file: the same with prompts.
          similarity: `contrastive` compares embeddings; `prediction` compares CLIPin's
            target projections of images with its predictions from texts.

        Raises:
          ClipinError: names that do not fit the source, a template without "{}", a
            label that is missing or no class, or a similarity that the model cannot
            compute.
        """
        self.source = source
        self.classes = choose_names(source.classes, classes, names_file, dataset)
        self._prompts = choose_prompts(self.classes, templates, templates_file, dataset)
        self._comparison = encoder.comparison(similarity)
        self._batch_size = batch_size
        self._labels = read_labels(source, len(self.classes))
        self.trials = scores.classification_trials(self._labels)
        self._warn_of_empty_classes()

    def run(self, state: ModelState) -> Iterator[tuple[str, float]]:
        """Yields (metric, value); "chance/METRIC" is that of a random guess."""
        image = self._comparison.images(state, self.source, self._batch_size)

        def encode(texts: Sequence[str]) -> np.ndarray:
            return self._comparison.texts(state, texts, self._batch_size)

        cosine = class_cosines(image, self._prompts, encode)
        probabilities = class_probabilities(cosine)
        values = scores.classification_scores(self._labels, probabilities)
        yield from values.items()
        members = scores.members(self._labels, len(self.classes))
        by_cosine = {
            "macro_auc": scores.macro_roc_auc(members, cosine),
            "mean_average_precision": scores.macro_average_precision(members, cosine),
        }
        for name, score in by_cosine.items():
            yield f"{name}_cosine", score.value
            yield f"chance/{name}_cosine", values[f"chance/{name}"]

    def _warn_of_empty_classes(self) -> None:
        shown = scores.members(self._labels, len(self.classes)).any(axis=0)
        empty = [self.classes[i] for i in np.flatnonzero(~shown)]
        if empty:
            warn_once(
                f"{len(empty)} of {len(self.classes)} classes ({first_few(empty)}) have"
                f" no image in the data of {self.source.describe(0)}: macro figures"
                " leave them out"
            )


@functools.cache
def warn_once(text: str) -> None:
    """Logs a warning, each text once: many entries of a suite share data."""
    _log.warning("%s", text)
