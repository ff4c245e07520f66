"""InfoNCE against the keys of a slowly moving copy, some of them from earlier batches.

Source: ALBEF, arXiv 2107.07651, section 3.2 and eq. 6; the queue is MoCo's
(arXiv 1911.05722). Reference: salesforce/ALBEF, `models/model_pretrain.py`.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import at_least_float32, unit
from clipin_jax.objectives.base import Inputs, Objective, Scalar
from clipin_jax.objectives.duplicates import (
    NOBODY,
    check_choice,
    duplicate_metrics,
    find_duplicates,
    read_ids,
    resolve,
)
from clipin_jax.objectives.losses import diagonal_accuracy, soft_cross_entropy, without
from clipin_jax.types import Array, Features, Metrics, View

MODALITIES = ("image", "text")


class Queue(nn.Module):
    """What is known of the last `length` pairs, in no order.

    Rows are written in turn, from the pointer on and around the end. At first keys are
    random directions, and ids those of nobody.
    """

    length: int
    dtype: Any

    @nn.compact
    def __call__(self, pairs: dict[str, Array], write: bool) -> dict[str, Array]:
        """Returns what was known before, and writes the new pairs over the oldest.

        Args:
          pairs: per modality keys [B, E], and ids [B] int32, if any, by their name.
          write: whether to remember them.

        Returns:
          The same of the queue, `length` rows each.
        """
        rows = {name: self._rows(name, new) for name, new in pairs.items()}
        pointer = self.variable("queue", "pointer", lambda: jnp.zeros((), jnp.int32))
        before = {name: row.value for name, row in rows.items()}
        if not write or self.is_initializing():
            return before
        count = pairs[MODALITIES[0]].shape[0]
        places = (pointer.value + jnp.arange(count)) % self.length
        for name, row in rows.items():
            new = jax.lax.stop_gradient(pairs[name]).astype(row.value.dtype)
            row.value = row.value.at[places].set(new, unique_indices=True)
        pointer.value = (pointer.value + count) % self.length
        return before

    def _rows(self, name: str, new: Array) -> nn.Variable:
        shape = (self.length, *new.shape[1:])

        def start() -> Array:
            if jnp.issubdtype(new.dtype, jnp.integer):
                return jnp.full(shape, NOBODY, new.dtype)
            return unit(jax.random.normal(self.make_rng("params"), shape, self.dtype))

        return self.variable("queue", name, start)


class MomentumContrastive(Objective):
    """Online embeddings against the target network's, with partly soft labels.

    With keys k = the target's embeddings of this batch, then of the queue, and a the
    `distillation` share, both ways between image and text:

        loss = cross-entropy(softmax(online . k / t), a softmax(target . k / t)
                             + (1 - a) one-hot)

    Where the views also take each other's part (`target.symmetric`), the queue of the
    second way holds the same pairs already, as negatives: better have none there, or
    mask duplicates.

    Attributes:
      queue_length: keys per modality that are remembered; 0 for none.
      init_temperature: where the learned divisor t starts. Its bounds, [0.001, 0.5] as
        published, belong to the optimizer: `optim.bounds`.
      target_view: which view the target branch sees, see `Learner`.
      duplicates: what pairs with the same picture or caption, be they in the batch or
        in the queue, are to each other: `ignore`, wrong answers like all others;
        `mask`, no answers, for the target neither; `multi_positive`, right ones, which
        share what is one-hot else. Accuracies leave them out, but for `ignore`.
    """

    scalars = {"weight": 1.0, "distillation": 0.4}
    queue_length: int = 65536
    init_temperature: float = 0.07
    target_view: str = "same"
    duplicates: str = "ignore"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        super().setup()
        check_choice(self, self.duplicates)
        self.temperature = Scalar(self.init_temperature, self.param_dtype)
        if self.queue_length:
            self.queue = Queue(self.queue_length, at_least_float32(self.param_dtype))

    def num_choices(self, batch_size: int) -> int:
        """Among how many a pair is looked for."""
        return batch_size + self.queue_length

    def targets(
        self, towers: Any, view: View, features: Features, train: bool
    ) -> dict[str, Array]:
        """Per modality the keys: [B, E] float32 of unit norm."""
        embedded = towers.embed(features)
        return {m: embedded[m]["embedding"] for m in MODALITIES}

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        """Returns the loss and the accuracy of both directions.

        Raises:
          ClipinError: the queue is shorter than the batch, or the data does not say
            what is a duplicate.
        """
        target = jax.lax.stop_gradient(inputs.targets)
        ids = read_ids(self, self.duplicates, inputs.view)
        known = self._known(target | ids, inputs.train)
        same = find_duplicates(ids, known)
        share = self.scalar("distillation", inputs.hyper)
        temperature = self.temperature()
        fixed = jax.lax.stop_gradient(temperature)
        loss, metrics = jnp.zeros(()), {"temperature": temperature}
        for asks, answers in (MODALITIES, MODALITIES[::-1]):
            online, keys = inputs.features[asks]["embedding"], known[answers]
            logits = online @ keys.T / temperature  # [B, B + queue]
            judged, positives = resolve(self.duplicates, logits, same)
            seen, _ = resolve(self.duplicates, target[asks] @ keys.T / fixed, same)
            hard = _uniform(positives, logits)
            labels = share * jax.nn.softmax(seen) + (1 - share) * hard
            loss = loss + soft_cross_entropy(judged, labels) / 2
            accuracy = diagonal_accuracy(without(logits, same))
            metrics[f"{asks}_to_{answers}_accuracy"] = accuracy
        return loss, metrics | duplicate_metrics(same)

    def _known(self, pairs: dict[str, Array], train: bool) -> dict[str, Array]:
        """These pairs, then those of the queue, which these enter after that."""
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


def _uniform(positives: Array | None, logits: Array) -> Array:
    """[B, N], each row shared among its right answers: one-hot where they are None."""
    if positives is None:
        return jnp.eye(*logits.shape, dtype=logits.dtype)
    return positives / jnp.sum(positives, axis=1, keepdims=True, dtype=logits.dtype)
