"""Linear probe: logistic regression on frozen image features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from clipin_jax.data.source import Source
from clipin_jax.evaluators.base import CLASSIFICATION
from clipin_jax.evaluators.metrics import scores
from clipin_jax.evaluators.probes.labeled_task import Classes, make_task
from clipin_jax.evaluators.probes.strength_search import ProbeOptions, probe_scores
from clipin_jax.inference.encode_fns import ModelState
from clipin_jax.inference.encoder import Encoder


class LinearProbe:
    """Accuracy, mean per-class recall, macro AUC and mAP of a linear classifier.

    It learns from the image tower's pooled features, before any projection. Its
    regularization has the least loss on held-out images: a validation source, or a part
    of the training source, never the scored source.
    """

    task = "linear_probe"
    figures = CLASSIFICATION
    benchmark_keys = {
        "lp_acc1": "accuracy",
        "lp_acc5": "top5_accuracy",
        "lp_mean_per_class_recall": "mean_per_class_recall",
        "lp_mean_average_precision": "mean_average_precision",
    }

    def __init__(
        self,
        encoder: Encoder,
        *,
        source: Source,
        train_source: Source,
        val_source: Source | None = None,
        classes: Classes = (),
        batch_size: int = 256,
        strengths: Sequence[float] = (),
        holdout_every: int = 5,
        max_iterations: int = 1000,
        seed: int = 0,
    ) -> None:
        """Reads the labels.

        Args:
          encoder: of the model.
          source: images to score.
          train_source: images to learn from.
          val_source: images to choose the strength by; None for a part of
            `train_source`.
          classes: class of `source` -> class of `train_source`, where names differ.
          batch_size: images encoded at a time.
          strengths: L2 penalties per sample to try; () searches as CLIP does.
          holdout_every: without validation samples, one in so many training samples is
            held out to choose the strength.
          max_iterations: of the solver.
          seed: of the draw of the samples that are held out.

        Raises:
          ClipinError: classes or labels that do not fit, see `make_task`, or options
            out of range.
        """
        self._options = ProbeOptions(strengths, holdout_every, max_iterations, seed)
        self._options.check()
        self.source, self._train_source = source, train_source
        self._task = make_task(source, train_source, classes)
        self.trials = scores.classification_trials(self._task.labels)
        self._validation: tuple[Source, np.ndarray] | None = None
        if val_source is not None:
            labels = make_task(val_source, train_source, classes).labels
            members = scores.members(labels, len(self._task.classes))
            self._validation = val_source, members
        self._encoder = encoder
        self._batch_size = batch_size

    def run(self, state: ModelState) -> Iterator[tuple[str, float]]:
        """Yields (metric, value), the strength of regularization last."""
        validation = None
        if self._validation is not None:
            val_source, members = self._validation
            validation = self._features(state, val_source), members
        yield from probe_scores(
            self._task,
            self._features(state, self._train_source),
            self._features(state, self.source),
            self._options,
            validation,
        )

    def _features(self, state: ModelState, source: Source) -> np.ndarray:
        return self._encoder.images(state, source, self._batch_size)["pooled"]
