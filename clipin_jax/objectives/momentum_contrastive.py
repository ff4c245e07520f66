"""InfoNCE against the keys of a momentum network, with a queue of earlier batches.

Source: ALBEF, arXiv 2107.07651, section 3.2 and eq. 6; the queue is MoCo's
(arXiv 1911.05722). Reference: salesforce/ALBEF, `models/model_pretrain.py`.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from clipin_jax.errors import ClipinError
from clipin_jax.models.base import Towers
from clipin_jax.models.layers import at_least_float32, unit
from clipin_jax.objectives.base import POOLED, Inputs, ObjectiveModule, Scalar
from clipin_jax.objectives.duplicates import (
    NO_ID,
    apply_choice,
    check_choice,
    duplicate_metrics,
    find_duplicates,
    read_ids,
)
from clipin_jax.objectives.losses import (
    diagonal_accuracy,
    mask_logits,
    soft_cross_entropy,
)
from clipin_jax.types import Array, Features, Metrics, View

MODALITIES = ("image", "text")


class Queue(nn.Module):
    """A ring buffer with keys and ids of the last `length` pairs.

    Before the first write, keys are random directions and ids are `NO_ID`.
    """

    length: int
    dtype: Any

    @nn.compact
    def __call__(self, pairs: dict[str, Array], write: bool) -> dict[str, Array]:
        """Returns the rows of the queue, then writes new pairs over the oldest.

        Args:
          pairs: name -> keys [B, E] of each modality, and ids [B] int32, if any.
          write: whether to write them.

        Returns:
          The same names, with `length` rows each.
        """
        rows = {name: self._rows(name, new) for name, new in pairs.items()}
        pointer = self.variable("queue", "pointer", lambda: jnp.zeros((), jnp.int32))
        before = {name: row.value for name, row in rows.items()}
        if not write or self.is_initializing():
            return before
        count = pairs[MODALITIES[0]].shape[0]
        indices = (pointer.value + jnp.arange(count)) % self.length
        for name, row in rows.items():
            new = jax.lax.stop_gradient(pairs[name]).astype(row.value.dtype)
            row.value = row.value.at[indices].set(new, unique_indices=True)
        pointer.value = (pointer.value + count) % self.length
        return before

    def _rows(self, name: str, new: Array) -> nn.Variable:
        shape = (self.length, *new.shape[1:])

        def start() -> Array:
            if jnp.issubdtype(new.dtype, jnp.integer):
                return jnp.full(shape, NO_ID, new.dtype)
            return unit(jax.random.normal(self.make_rng("params"), shape, self.dtype))

        return self.variable("queue", name, start)


class MomentumContrastive(ObjectiveModule):
    """Contrasts online embeddings with the target network's, with partly soft labels.

    The keys k are the target's embeddings of this batch, then those of the queue; a is
    the `distillation` share. In both directions between image and text:

        loss = cross-entropy(softmax(online . k / t), a softmax(target . k / t)
                             + (1 - a) one-hot)

    With `target.symmetric`, the queue already has the pairs of the batch as negatives
    when the views are swapped: use no queue then, or mask duplicates.

    Attributes:
      queue_length: keys per modality in the queue; 0 for none.
      init_temperature: initial value of the learned divisor t. The optimizer keeps it
        in [0.001, 0.5], as published, see `optim.bounds`.
      target_view: the view of the target branch, `second` or `same`.
      duplicates: how pairs with an equal image or caption, in the batch or in the
        queue, are treated: `ignore`, as negatives; `mask`, neither as negatives nor as
        positives, also for the target; `multi_positive`, as positives, which share the
        one-hot part. Accuracies do not count duplicates, except with `ignore`.

    Scalars:
      distillation: share a of the target's softmax in the labels.
    """

    scalars = {"weight": 1.0, "distillation": 0.4}
    limits = {"distillation": (0.0, 1.0)}
    reads = (POOLED,)
    queue_length: int = 65536
    init_temperature: float = 0.07
    target_view: str = "same"
    duplicates: str = "ignore"

    def setup(self) -> None:
        super().setup()
        check_choice(self, self.duplicates)
        self.temperature = Scalar(self.init_temperature, self.param_dtype)
        if self.queue_length:
            self.queue = Queue(self.queue_length, at_least_float32(self.param_dtype))

    def num_choices(self, batch_size: int) -> int:
        """Returns the number of keys that an image or a text is compared with."""
        return batch_size + self.queue_length

    def scale_cosines(self, cosine: Array) -> tuple[Array, Array]:
        """Returns logits, and the probability of each text among those of its row."""
        logits = cosine / self.temperature()
        return logits, jax.nn.softmax(logits, axis=1)

    def targets(
        self, towers: Towers, view: View, features: Features, train: bool
    ) -> dict[str, Array]:
        """Returns the keys of each modality: [B, E] float32 of unit norm."""
        embedded = towers.embed(features)
        return {m: embedded[m]["embedding"] for m in MODALITIES}

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        """Returns the loss, and the accuracy of both directions.

        Raises:
          ClipinError: the queue is shorter than the batch, or the data has no ids to
            find duplicates by.
        """
        target = jax.lax.stop_gradient(inputs.targets)
        ids = read_ids(self, self.duplicates, inputs.view)
        candidates = self._candidates(target | ids, inputs.train)
        duplicates = find_duplicates(ids, candidates)
        share = self.scalar("distillation", inputs.hyper)
        temperature = self.temperature()
        fixed = jax.lax.stop_gradient(temperature)
        loss, metrics = jnp.zeros(()), {"temperature": temperature}
        for queries, keys in (MODALITIES, MODALITIES[::-1]):
            k = candidates[keys]
            logits = inputs.features[queries]["embedding"] @ k.T / temperature
            online, positives = apply_choice(self.duplicates, logits, duplicates)
            soft, _ = apply_choice(
                self.duplicates, target[queries] @ k.T / fixed, duplicates
            )
            hard = _spread(positives, logits)
            labels = share * jax.nn.softmax(soft) + (1 - share) * hard
            loss = loss + soft_cross_entropy(online, labels) / 2
            accuracy = diagonal_accuracy(mask_logits(logits, duplicates))
            metrics[f"{queries}_to_{keys}_accuracy"] = accuracy
        return loss, metrics | duplicate_metrics(duplicates)

    def _candidates(self, pairs: dict[str, Array], train: bool) -> dict[str, Array]:
        """Returns these pairs, then those of the queue, and queues these pairs."""
        if not self.queue_length:
            return pairs
        batch = pairs[MODALITIES[0]].shape[0]
        if batch > self.queue_length:
            raise ClipinError(
                f"{self.config_key}.queue_length = {self.queue_length} is less "
                f"than a batch of {batch}: make it longer, or 0 for no queue"
            )
        queue = self.queue(pairs, write=train)
        return {
            name: jnp.concatenate([new, queue[name]]) for name, new in pairs.items()
        }


def _spread(positives: Array | None, logits: Array) -> Array:
    """Returns labels [B, N], uniform over the positives; one-hot if None."""
    if positives is None:
        return jnp.eye(*logits.shape, dtype=logits.dtype)
    return positives / jnp.sum(positives, axis=1, keepdims=True, dtype=logits.dtype)
