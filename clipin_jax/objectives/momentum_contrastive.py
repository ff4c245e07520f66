"""InfoNCE against the keys of a slowly moving copy, some of them from earlier batches.

Source: ALBEF, arXiv 2107.07651, section 3.2 and eq. 6; the queue is MoCo's
(arXiv 1911.05722). Reference: salesforce/ALBEF, `models/model_pretrain.py`.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from clipin_jax.errors import ClipinError
from clipin_jax.losses import diagonal_accuracy, soft_cross_entropy, unit
from clipin_jax.models.layers import at_least_float32
from clipin_jax.objectives.base import Inputs, Objective, Scalar
from clipin_jax.types import Array, Features, Metrics, View

MODALITIES = ("image", "text")


class Queue(nn.Module):
    """The keys of the last `length` pairs, in no order; random directions at first.

    Rows are written in turn, from the pointer on and around the end.
    """

    length: int
    dtype: Any

    @nn.compact
    def __call__(self, keys: dict[str, Array], write: bool) -> dict[str, Array]:
        """Returns the keys of before, and writes the new ones over the oldest.

        Args:
          keys: per modality [B, E].
          write: whether to remember them.

        Returns:
          Per modality [length, E].
        """
        rows = {m: self._rows(m, k.shape[-1]) for m, k in keys.items()}
        pointer = self.variable("queue", "pointer", lambda: jnp.zeros((), jnp.int32))
        before = {m: r.value for m, r in rows.items()}
        if not write or self.is_initializing():
            return before
        count = keys[MODALITIES[0]].shape[0]
        places = (pointer.value + jnp.arange(count)) % self.length
        for modality, row in rows.items():
            new = jax.lax.stop_gradient(keys[modality]).astype(self.dtype)
            row.value = row.value.at[places].set(new, unique_indices=True)
        pointer.value = (pointer.value + count) % self.length
        return before

    def _rows(self, modality: str, width: int) -> nn.Variable:
        def start() -> Array:
            shape = (self.length, width)
            return unit(jax.random.normal(self.make_rng("params"), shape, self.dtype))

        return self.variable("queue", modality, start)


class MomentumContrastive(Objective):
    """Online embeddings against the target network's, with partly soft labels.

    With keys k = the target's embeddings of this batch, then of the queue, and a the
    `distillation` share, both ways between image and text:

        loss = cross-entropy(softmax(online . k / t), a softmax(target . k / t)
                             + (1 - a) one-hot)

    Where the views also take each other's part (`target.symmetric`), the queue of the
    second way holds the same pairs already, as negatives: better have none there.

    Attributes:
      queue_length: keys per modality that are remembered; 0 for none.
      init_temperature: where the learned divisor t starts. Its bounds, [0.001, 0.5] as
        published, belong to the optimizer: `optim.bounds`.
      target_view: which view the target branch sees, see `Learner`.
    """

    scalars = ("weight", "distillation")
    queue_length: int = 65536
    init_temperature: float = 0.07
    target_view: str = "same"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        super().setup()
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
          ClipinError: the queue is shorter than the batch.
        """
        target = jax.lax.stop_gradient(inputs.targets)
        keys = self._keys(target, inputs.train)
        share = self.scalar("distillation", inputs.hyper)
        temperature = self.temperature()
        loss, metrics = jnp.zeros(()), {"temperature": temperature}
        for asks, answers in (MODALITIES, MODALITIES[::-1]):
            online = inputs.features[asks]["embedding"]
            logits = online @ keys[answers].T / temperature  # [B, B + queue]
            fixed = jax.lax.stop_gradient(temperature)
            soft = jax.nn.softmax(target[asks] @ keys[answers].T / fixed)
            hard = jnp.eye(*logits.shape, dtype=logits.dtype)
            labels = share * soft + (1 - share) * hard
            loss = loss + soft_cross_entropy(logits, labels) / 2
            metrics[f"{asks}_to_{answers}_accuracy"] = diagonal_accuracy(logits)
        return loss, metrics

    def _keys(self, target: dict[str, Array], train: bool) -> dict[str, Array]:
        """Per modality [B + queue, E]; this batch enters the queue after that."""
        if not self.queue_length:
            return target
        batch = target[MODALITIES[0]].shape[0]
        if batch > self.queue_length:
            raise ClipinError(
                f"{self.config_key}.queue_length = {self.queue_length} is less "
                f"than a batch of {batch}: make it longer, or 0 for no queue"
            )
        queue = self.queue(target, write=train)
        return {m: jnp.concatenate([target[m], queue[m]]) for m in MODALITIES}
