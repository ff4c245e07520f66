"""The linear probe of the released CLIPin: one layer, sigmoids, gradient steps."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from jax import lax
from scipy.special import expit

from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.base import CLASSIFICATION
from clipin_jax.evaluators.metrics import scores
from clipin_jax.evaluators.probes.labeled_task import Classes, make_task
from clipin_jax.evaluators.probes.linear_head import (
    Head,
    answer,
    new_head,
    shuffled,
    sigmoid_loss,
)
from clipin_jax.inference.encoder import Encoder


class ReleasedProbe:
    """Scores of the protocol behind CLIPin's tables (arXiv 2508.06434).

    A linear layer on the tower's pooled features, before the pre-projector; binary
    cross-entropy of every class, with one label an image too; AdamW for so many epochs,
    with training views of the images; the last epoch counts. Its figures are
    `macro_auc` and `mean_average_precision`. Unlike the released code it leaves out no
    image, neither of the last batch of an epoch nor of those that are scored.

    `linear_probe` is the better estimate of what features are worth: this one depends
    on learning rate and epochs, and is there to compare with published figures.
    """

    task = "released_probe"
    figures = CLASSIFICATION
    benchmark_keys = {
        "lp_acc1": "accuracy",
        "lp_mean_average_precision": "mean_average_precision",
    }

    def __init__(
        self,
        encode: Encoder,
        *,
        source: Any,
        train_source: Any,
        classes: Classes = (),
        batch_size: int = 256,
        train_batch_size: int = 32,
        epochs: int = 50,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        augment: bool = True,
        seed: int = 0,
    ) -> None:
        """Reads the labels, so that what is wrong with them shows before training.

        source: what is scored; train_source: what the probe learns from; classes: what
        `train_source` calls classes of the other, see `make_task`; batch_size: images
        encoded at a time; train_batch_size: features of one step; augment: whether
        every epoch sees other views of the images, made as in the run's training, and
        encodes them anew; seed: of the layer, the order and the views.
        Raises ClipinError for classes or labels that do not fit, see `make_task`.
        """
        check_training(encode, epochs, train_batch_size, augment)
        self.source = source
        self._task = make_task(source, train_source, classes)
        self._encode = encode
        self._batch_size = batch_size
        self._train_batch_size, self._epochs = train_batch_size, epochs
        self._augment, self._seed = augment, seed
        self._optimizer = optax.adamw(learning_rate, weight_decay=weight_decay)

    def run(self, state: Any) -> Iterator[tuple[str, float]]:
        """Yields (name, value); `chance/<name>` says what a random guess gets."""
        task = self._task
        head = jax.tree.map(np.asarray, self._train(state.variables))
        seen = self._encode.images(state.variables, task.source, self._batch_size)
        # In float64: sigmoids near 1 that float32 takes for equal would be ties.
        kernel, bias = (head[key].astype(np.float64) for key in ("kernel", "bias"))
        probabilities = expit(seen["pooled"] @ kernel + bias)
        yield from scores.classification_scores(task.labels, probabilities).items()

    def _train(self, variables: Any) -> Head:
        task, features = self._task, None
        members = task.train_members.astype(np.float32)
        head = moments = None
        for epoch in range(self._epochs):
            if features is None or self._augment:
                features = self._features(variables, epoch)
            if head is None:
                head = new_head(features.shape[1], members.shape[1], self._seed)
                moments = self._optimizer.init(head)
            order = shuffled(len(members), self._seed, epoch)
            rows, mask = steps(order, self._train_batch_size)
            head, moments = _epoch(
                self._optimizer, head, moments, features, members, rows, mask
            )
        assert head is not None  # there is at least one epoch
        return head

    def _features(self, variables: Any, epoch: int) -> np.ndarray:
        seen = variables, self._task.train_source, self._batch_size
        if self._augment:
            found = self._encode.views(*seen, seed=self._seed, epoch=epoch)
        else:
            found = self._encode.images(*seen)
        return found["pooled"]


def check_training(
    encode: Encoder, epochs: int, train_batch_size: int, augment: bool
) -> None:
    """Raises ClipinError for numbers that make no sense, or views nobody can make."""
    if epochs < 1 or train_batch_size < 1:
        raise ClipinError(
            "epochs and train_batch_size must be 1 or more, got"
            f" {epochs} and {train_batch_size}"
        )
    if augment and not encode.augments:
        raise ClipinError("augment is on, but it is not known how: set augment=False")


def steps(order: np.ndarray, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """An order cut into batches, the last padded: rows and mask, [S, batch_size]."""
    count = -(-len(order) // batch_size)
    rows = np.zeros(count * batch_size, np.int32)
    rows[: len(order)] = order
    mask = np.arange(len(rows)) < len(order)
    return rows.reshape(count, -1), mask.reshape(count, -1)


@partial(jax.jit, static_argnums=0)
def _epoch(optimizer, head, moments, features, members, rows, mask):
    """All steps of an epoch in one program; optimizer: hashable, as optax's are."""

    def step(carry, batch):
        head, moments = carry
        index, real = batch

        def loss(head):
            return sigmoid_loss(answer(head, features[index]), members[index], real)

        updates, moments = optimizer.update(jax.grad(loss)(head), moments, head)
        return (optax.apply_updates(head, updates), moments), None

    return lax.scan(step, (head, moments), (rows, mask))[0]
