"""Zero-shot classification: classes are named by prompts, nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.special import softmax

from clipin_jax.errors import ClipinError
from clipin_jax.evaluators import scores
from clipin_jax.evaluators.encode import Encoder, read_labels

# CLIP's own temperature at its bound; it decides nothing but the probabilities.
LOGIT_SCALE = 100.0


class ZeroShot:
    """Accuracy, mean per-class recall, macro AUC and mAP of prompts as classifier.

    Every prompt is encoded and normalised, the prompts of a class are averaged, and
    the average is normalised again (Radford et al. 2021, section 3.1.4).
    """

    task = "zeroshot_classification"
    benchmark_keys = {
        "acc1": "accuracy",
        "acc5": "top5_accuracy",
        "mean_per_class_recall": "mean_per_class_recall",
        "mean_average_precision": "mean_average_precision",
    }

    def __init__(
        self,
        encode: Encoder,
        *,
        source: Any,
        batch_size: int = 256,
        classes: Sequence[str] = (),
        templates: Sequence[str] = ("{}",),
    ) -> None:
        """Reads the labels, so that what is wrong with them shows before training.

        classes: names shown in the prompts, in label order, underscores included;
        () takes the source's own. templates: prompts, "{}" is where the name goes.
        Raises ClipinError when there are no classes or a template has no "{}",
        or a label is missing or none of the classes.
        """
        self.source = source
        self.classes = tuple(classes) or tuple(source.classes)
        if not self.classes:
            raise ClipinError(
                "zero_shot: the source has no class names: set `classes`, or take a"
                " source with labels"
            )
        if isinstance(templates, str) or not templates:
            raise ClipinError(
                f"zero_shot: templates must be a list of prompts, got {templates!r}"
            )
        for template in templates:
            if "{}" not in template:
                raise ClipinError(
                    f"zero_shot: the template {template!r} has no {{}}, the place for"
                    " the class name"
                )
        self._encode = encode
        self._batch_size = batch_size
        self._templates = tuple(templates)
        self._labels = read_labels(source, len(self.classes))

    def run(self, state: Any) -> Iterator[tuple[str, float]]:
        """Yields (name, value); `chance/<name>` says what a random guess gets."""
        variables = state.variables
        image = self._encode.images(variables, self.source, self._batch_size)
        cosine = image["embedding"] @ self._classifier(variables).T  # [B, K]
        probabilities = softmax(LOGIT_SCALE * cosine.astype(np.float64), axis=1)
        yield from scores.classification_scores(self._labels, probabilities).items()
        # The softmax couples the classes, so that cosines order the images of one
        # class differently.
        belongs = scores.members(self._labels, len(self.classes))
        yield "macro_auc_cosine", scores.macro_roc_auc(belongs, cosine).value
        yield "chance/macro_auc_cosine", 0.5

    def _classifier(self, variables: Any) -> np.ndarray:
        """One unit vector a class: [K, E] float32."""
        prompts = [t.replace("{}", c) for c in self.classes for t in self._templates]
        text = self._encode.texts(variables, prompts, self._batch_size)["embedding"]
        mean = text.reshape(len(self.classes), len(self._templates), -1).mean(axis=1)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)
