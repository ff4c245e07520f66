"""The linear probe of the released CLIPin: a linear layer trained with sigmoids."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import jax
import numpy as np
import optax
from jax import lax
from scipy.special import expit

from clipin_jax.data.source import Source
from clipin_jax.evaluators.base import CLASSIFICATION
from clipin_jax.evaluators.metrics import scores
from clipin_jax.evaluators.probes.labeled_task import Classes, make_task
from clipin_jax.evaluators.probes.linear_head import (
    Head,
    check_training,
    cut_batches,
    epoch_order,
    head_logits,
    new_head,
    sigmoid_loss,
)
from clipin_jax.inference.encode_fns import ModelState
from clipin_jax.inference.encoder import Encoder


class ReleasedProbe:
    """Scores of the protocol of CLIPin's tables (arXiv 2508.06434).

    A linear layer learns from the tower's pooled features, before the pre-projector.
    The loss is the binary cross-entropy of every class, even if images have one label.
    AdamW takes a number of epochs over training views. The scores are those after the
    last epoch; the tables have `macro_auc` and `mean_average_precision`. The released
    code drops the last batch of an epoch and of the scored images; this one drops none.

    Use it to compare with published scores. `linear_probe` is the better measure of
    features: it does not depend on learning rate and epochs.
    """

    task = "released_probe"
    figures = CLASSIFICATION
    benchmark_keys = {
        "lp_acc1": "accuracy",
        "lp_mean_average_precision": "mean_average_precision",
    }

    def __init__(
        self,
        encoder: Encoder,
        *,
        source: Source,
        train_source: Source,
        classes: Classes = (),
        batch_size: int = 256,
        train_batch_size: int = 32,
        epochs: int = 50,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        augment: bool = True,
        seed: int = 0,
    ) -> None:
        """Reads the labels.

        Args:
          encoder: of the model.
          source: images to score.
          train_source: images to learn from.
          classes: class of `source` -> class of `train_source`, where names differ.
          batch_size: images encoded at a time.
          train_batch_size: features of one step.
          epochs: passes over the training images.
          learning_rate, weight_decay: of AdamW.
          augment: whether each epoch encodes new views, augmented as in training.
          seed: of the layer, the order and the views.

        Raises:
          ClipinError: classes or labels that do not fit, see `make_task`, or counts
            below 1.
        """
        check_training(encoder, epochs, train_batch_size, augment)
        self.source, self._train_source = source, train_source
        self._task = make_task(source, train_source, classes)
        self.trials = scores.classification_trials(self._task.labels)
        self._encoder = encoder
        self._batch_size = batch_size
        self._train_batch_size, self._epochs = train_batch_size, epochs
        self._augment, self._seed = augment, seed
        self._optimizer = optax.adamw(learning_rate, weight_decay=weight_decay)

    def run(self, state: ModelState) -> Iterator[tuple[str, float]]:
        """Yields (metric, value); "chance/METRIC" is that of a random guess."""
        head = jax.tree.map(np.asarray, self._train(state))
        features = self._encoder.images(state, self.source, self._batch_size)["pooled"]
        # In float64: in float32, sigmoids near 1 would tie.
        kernel, bias = (head[key].astype(np.float64) for key in ("kernel", "bias"))
        probabilities = expit(features @ kernel + bias)
        labels = self._task.labels
        yield from scores.classification_scores(labels, probabilities).items()

    def _train(self, state: ModelState) -> Head:
        features, members = None, self._task.train_members.astype(np.float32)
        head = moments = None
        for epoch in range(self._epochs):
            if features is None or self._augment:
                features = self._features(state, epoch)
            if head is None:
                head = new_head(features.shape[1], members.shape[1], self._seed)
                moments = self._optimizer.init(head)
            order = epoch_order(len(members), self._seed, epoch)
            rows, mask = cut_batches(order, self._train_batch_size)
            head, moments = _run_epoch(
                self._optimizer, head, moments, features, members, rows, mask
            )
        assert head is not None  # there is at least one epoch
        return head

    def _features(self, state: ModelState, epoch: int) -> np.ndarray:
        arguments = state, self._train_source, self._batch_size
        if self._augment:
            features = self._encoder.views(*arguments, seed=self._seed, epoch=epoch)
        else:
            features = self._encoder.images(*arguments)
        return features["pooled"]


@partial(jax.jit, static_argnums=0)
def _run_epoch(optimizer, head, moments, features, members, rows, mask):
    """Takes all steps of an epoch in one program; optax optimizers are hashable."""

    def step(carry, batch):
        head, moments = carry
        index, is_sample = batch

        def loss(head):
            logits = head_logits(head, features[index])
            return sigmoid_loss(logits, members[index], is_sample)

        updates, moments = optimizer.update(jax.grad(loss)(head), moments, head)
        return (optax.apply_updates(head, updates), moments), None

    return lax.scan(step, (head, moments), (rows, mask))[0]
