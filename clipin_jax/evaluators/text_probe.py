"""Linear probe of the frozen text tower on labeled texts (SentEval).

Source: Conneau and Kiela 2018, arXiv 1803.05449: logistic regression on the sentence's
vector, with regularization chosen on data that is not scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.base import CLASSIFICATION
from clipin_jax.evaluators.datasets.text_columns import read_columns
from clipin_jax.evaluators.linear_probe import LinearProbe
from clipin_jax.evaluators.metrics import scores
from clipin_jax.evaluators.probes.labeled_task import LabeledTask
from clipin_jax.evaluators.probes.strength_search import ProbeOptions, probe_scores
from clipin_jax.inference.encode_fns import ModelState
from clipin_jax.inference.encoder import Encoder


class TextProbe:
    """Accuracy, mean per-class recall, macro AUC and mAP of a linear classifier.

    It learns from the text tower's pooled features, as `LinearProbe` does from images.
    """

    task = "text_probe"
    figures = CLASSIFICATION
    benchmark_keys = LinearProbe.benchmark_keys

    def __init__(
        self,
        encoder: Encoder,
        *,
        file: str,
        train_file: str,
        val_file: str = "",
        columns: Sequence[str] = ("text", "label"),
        batch_size: int = 256,
        strengths: Sequence[float] = (),
        holdout_every: int = 5,
        max_iterations: int = 1000,
        seed: int = 0,
    ) -> None:
        """Reads all files.

        Args:
          encoder: of the model.
          file: texts to score, .tsv or .csv with a header, see `read_columns`.
          train_file: texts to learn from.
          val_file: texts to choose the strength by; "" for a part of `train_file`.
          columns: names of the text's column and of the label's.
          batch_size: texts encoded at a time.
          strengths: L2 penalties per sample to try; () searches as CLIP does.
          holdout_every: without validation samples, one in so many training samples is
            held out to choose the strength.
          max_iterations: of the solver.
          seed: of the draw of the samples that are held out.

        Raises:
          ClipinError: a file that cannot be read, a training file with fewer than two
            labels, a label that is not in it, or options out of range.
        """
        self._options = ProbeOptions(strengths, holdout_every, max_iterations, seed)
        self._options.check()
        if len(columns) != 2:
            raise ClipinError(
                f"columns must name a text and a label, got {tuple(columns)}"
            )
        train = read_columns(train_file, columns)
        self.classes = tuple(sorted({label for _, label in train}))
        if len(self.classes) < 2:
            raise ClipinError(
                f"all labels in {train_file} are {train[0][1]!r}: a classifier needs"
                " two or more"
            )
        self._train_texts, train_labels = self._read_rows(train_file, train)
        self.texts, labels = self._read_rows(file, read_columns(file, columns))
        self._val_texts, self._val_members = [], None
        if val_file:
            rows = read_columns(val_file, columns)
            self._val_texts, val_labels = self._read_rows(val_file, rows)
            self._val_members = scores.members(val_labels, len(self.classes))
        self._task = LabeledTask(self.classes, labels, train_labels)
        self.trials = scores.classification_trials(self._task.labels)
        self._encoder = encoder
        self._batch_size = batch_size

    def _read_rows(
        self, file: str, rows: Sequence[tuple[str, ...]]
    ) -> tuple[list[str], np.ndarray]:
        """Returns the texts of a file and their labels, [B] int."""
        label_of = {name: label for label, name in enumerate(self.classes)}
        for number, (_, name) in enumerate(rows, 1):
            if name not in label_of:
                raise ClipinError(
                    f"{file}, row {number}: the label {name!r} is none of those in the"
                    f" training file: {', '.join(self.classes)}"
                )
        labels = np.array([label_of[name] for _, name in rows])
        return [text for text, _ in rows], labels

    def run(self, state: ModelState) -> Iterator[tuple[str, float]]:
        """Yields (metric, value), the strength of regularization last."""
        validation = None
        if self._val_members is not None:
            validation = self._features(state, self._val_texts), self._val_members
        yield from probe_scores(
            self._task,
            self._features(state, self._train_texts),
            self._features(state, self.texts),
            self._options,
            validation,
        )

    def _features(self, state: ModelState, texts: Sequence[str]) -> np.ndarray:
        return self._encoder.texts(state, texts, self._batch_size)["pooled"]
