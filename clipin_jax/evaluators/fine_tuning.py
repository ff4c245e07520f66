"""Full fine-tuning: a copy of the image tower and a new linear head learn together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.special import expit

from clipin_jax.core import sharding
from clipin_jax.core.parameter_paths import path_name
from clipin_jax.evaluators.base import CLASSIFICATION
from clipin_jax.evaluators.metrics import scores
from clipin_jax.evaluators.probes.labeled_task import Classes, make_task
from clipin_jax.evaluators.probes.linear_head import (
    answer,
    new_head,
    shuffled,
    sigmoid_loss,
)
from clipin_jax.evaluators.released_probe import check_training, steps
from clipin_jax.inference.encoder import Encoder

_NO_DECAY = re.compile(r"(^|/)(bias|scale)$")  # of layers and of norms


class FineTuning:
    """Scores of the tower after training all of it on labels, as released with CLIPin.

    Binary cross-entropy of every class, with one label an image too, on a linear layer
    behind the pooled features; AdamW with a small rate for the tower and a large one
    for the layer; the last epoch counts. The tower is a copy in float32: the state that
    is evaluated stays what it is (the released code trains the very model). It learns
    in evaluation mode: nothing is dropped, and batch statistics, where a tower has any,
    stay frozen as pretraining left them. No image is left out.
    """

    task = "fine_tuning"
    figures = CLASSIFICATION

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
        learning_rate: float = 1e-6,
        weight_decay: float = 1e-3,
        head_learning_rate: float = 1e-3,
        head_weight_decay: float = 0.0,
        b1: float = 0.9,
        b2: float = 0.999,
        eps: float = 1e-6,
        augment: bool = True,
        seed: int = 0,
    ) -> None:
        """Reads the labels, so that what is wrong with them shows before training.

        source: what is scored; train_source: what is learnt from; classes: what
        `train_source` calls classes of the other, see `make_task`; batch_size: images
        scored at a time; train_batch_size: images of one step, over all devices;
        learning_rate, weight_decay: of the tower, decay 0 for biases and norms;
        head_learning_rate, head_weight_decay: of the linear layer; b1, b2, eps: of
        AdamW, for both; augment: whether images are seen in views made as in the run's
        training; seed: of the layer, the order and the views.
        Raises ClipinError for classes or labels that do not fit, see `make_task`.
        """
        check_training(encode, epochs, train_batch_size, augment)
        self.source = source
        self._task = make_task(source, train_source, classes)
        self._encode = encode
        self._batch_size = batch_size
        self._train_batch_size, self._epochs = train_batch_size, epochs
        self._augment, self._seed = augment, seed
        adam = dict(b1=b1, b2=b2, eps=eps)
        self._optimizer = optax.multi_transform(
            {
                "tower": optax.adamw(
                    learning_rate, **adam, weight_decay=weight_decay, mask=_decayed
                ),
                "head": optax.adamw(
                    head_learning_rate, **adam, weight_decay=head_weight_decay
                ),
            },
            {"tower": "tower", "head": "head"},
        )
        self._step = jax.jit(self._update, donate_argnums=(0, 1))

    def run(self, state: Any) -> Iterator[tuple[str, float]]:
        """Yields (name, value); `chance/<name>` says what a random guess gets."""
        variables, task = state.variables, self._task
        trained = self._train(variables)
        tuned = with_tower(variables, trained["tower"])
        seen = self._encode.images(tuned, task.source, self._batch_size)["pooled"]
        # In float64: sigmoids near 1 that float32 takes for equal would be ties.
        head = jax.device_put(trained["head"], sharding.replicated(self._encode.mesh))
        head = jax.tree.map(lambda x: np.asarray(x, np.float64), head)
        probabilities = expit(seen @ head["kernel"] + head["bias"])
        yield from scores.classification_scores(task.labels, probabilities).items()

    def _train(self, variables: Any) -> dict[str, Any]:
        width = jax.eval_shape(self._pooled, variables, self._blank()).shape[1]
        head = new_head(width, len(self._task.classes), self._seed)
        mesh = self._encode.mesh
        trained = {
            "tower": jax.tree.map(_copy, variables["params"]["towers"]["image"]),
            "head": jax.device_put(head, sharding.replicated(mesh)),
        }
        moments = jax.jit(self._optimizer.init)(trained)
        for epoch in range(self._epochs):
            for batch in self._batches(epoch):
                batch = sharding.put(batch, mesh)
                trained, moments = self._step(trained, moments, variables, batch)
        return trained

    def _pooled(self, variables: Any, image: Any) -> Any:
        return self._encode.functions.image(variables, image)["pooled"]

    def _blank(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, *self._encode.image_size, 3), np.uint8)

    def _update(self, trained, moments, variables, batch):
        def loss(trained):
            tuned = with_tower(variables, trained["tower"])
            logits = answer(trained["head"], self._pooled(tuned, batch["image"]))
            return sigmoid_loss(logits, batch["members"], batch["mask"])

        gradient = jax.grad(loss)(trained)
        updates, moments = self._optimizer.update(gradient, moments, trained)
        return optax.apply_updates(trained, updates), moments

    def _batches(self, epoch: int) -> Iterator[dict[str, np.ndarray]]:
        """The share of this process in an epoch, batches padded to suit the devices."""
        members = self._task.train_members.astype(np.float32)
        order = shuffled(len(members), self._seed, epoch)
        rows, mask = steps(order, self._train_batch_size)
        more = -self._train_batch_size % self._encode.mesh.size
        rows = np.pad(np.where(mask, rows, -1), ((0, 0), (0, more)), constant_values=-1)
        batches = self._encode.view_batches(
            self._task.train_source,
            rows.shape[1],
            order=rows.ravel(),
            seed=self._seed,
            epoch=epoch,
            augment=self._augment,
        )
        for batch in batches:
            yield {**batch, "members": members[batch.pop("index")]}


def with_tower(variables: Any, tower: Any) -> Any:
    """The variables of a model, but with another image tower."""
    params = variables["params"]
    towers = {**params["towers"], "image": tower}
    return {**variables, "params": {**params, "towers": towers}}


def _copy(parameter: Any) -> Any:
    # A rate of 1e-6 moves nothing in half precision.
    return jnp.array(parameter, jnp.float32, copy=True)


def _decayed(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, _: not _NO_DECAY.search(path_name(path)), params
    )
