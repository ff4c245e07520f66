"""Full fine-tuning: a copy of the image tower and a new linear head learn together."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.special import expit

from clipin_jax.core import sharding
from clipin_jax.core.lora import merge_lora
from clipin_jax.core.parameter_paths import path_name
from clipin_jax.data.source import Source
from clipin_jax.evaluators.base import CLASSIFICATION
from clipin_jax.evaluators.metrics import scores
from clipin_jax.evaluators.probes.labeled_task import Classes, make_task
from clipin_jax.evaluators.probes.linear_head import (
    check_training,
    cut_batches,
    epoch_order,
    head_logits,
    new_head,
    sigmoid_loss,
)
from clipin_jax.inference.encode_fns import ModelState
from clipin_jax.inference.encoder import Encoder

_NO_DECAY = re.compile(r"(^|/)(bias|scale)$")  # of layers and of norms


class _TunedState(NamedTuple):
    variables: Any
    target_variables: Any = None  # images are encoded by the online branch


class FineTuning:
    """Scores of the tower after training all of it on labels, as released with CLIPin.

    A linear layer follows the pooled features. The loss is the binary cross-entropy of
    every class, even if images have one label. AdamW has a small rate for the tower and
    a large one for the layer. The scores are those after the last epoch.

    The tower is a copy in float32, so that the evaluated state does not change; the
    released code trains the model itself. The copy learns in evaluation mode: without
    dropout, and with the batch statistics of pretraining. No image is dropped.
    """

    task = "fine_tuning"
    figures = CLASSIFICATION

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
        """Reads the labels.

        Args:
          encoder: of the model.
          source: images to score.
          train_source: images to learn from.
          classes: class of `source` -> class of `train_source`, where names differ.
          batch_size: images scored at a time.
          train_batch_size: images of one step, over all devices.
          epochs: passes over the training images.
          learning_rate, weight_decay: of the tower; biases and norms do not decay.
          head_learning_rate, head_weight_decay: of the linear layer.
          b1, b2, eps: of AdamW, for both.
          augment: whether to learn from views that are augmented as in training.
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
        adamw = functools.partial(optax.adamw, b1=b1, b2=b2, eps=eps)
        tower = adamw(learning_rate, weight_decay=weight_decay, mask=_decays)
        head = adamw(head_learning_rate, weight_decay=head_weight_decay)
        self._optimizer = optax.multi_transform(
            {"tower": tower, "head": head}, {"tower": "tower", "head": "head"}
        )
        self._step = jax.jit(self._update, donate_argnums=(0, 1))

    def run(self, state: ModelState) -> Iterator[tuple[str, float]]:
        """Yields (metric, value); "chance/METRIC" is that of a random guess."""
        trained = self._train(state.variables)
        tuned = _TunedState(with_tower(state.variables, trained["tower"]))
        features = self._encoder.images(tuned, self.source, self._batch_size)["pooled"]
        # In float64: in float32, sigmoids near 1 would tie.
        head = jax.device_put(trained["head"], sharding.replicated(self._encoder.mesh))
        head = jax.tree.map(lambda x: np.asarray(x, np.float64), head)
        probabilities = expit(features @ head["kernel"] + head["bias"])
        labels = self._task.labels
        yield from scores.classification_scores(labels, probabilities).items()

    def _train(self, variables: Any) -> dict[str, Any]:
        shape = (1, *self._encoder.image_size, 3)
        image = jax.ShapeDtypeStruct(shape, np.uint8)
        width = jax.eval_shape(self._pooled, variables, image).shape[1]
        head = new_head(width, len(self._task.classes), self._seed)
        mesh = self._encoder.mesh
        tower = variables["params"]["towers"]["image"]
        trained = {
            "tower": jax.tree.map(_copy, merge_lora(tower)),
            "head": jax.device_put(head, sharding.replicated(mesh)),
        }
        moments = jax.jit(self._optimizer.init)(trained)
        for epoch in range(self._epochs):
            for batch in self._batches(epoch):
                batch = sharding.put(batch, mesh)
                trained, moments = self._step(trained, moments, variables, batch)
        return trained

    def _pooled(self, variables: Any, image: Any) -> Any:
        return self._encoder.functions.image(variables, image)["pooled"]

    def _update(self, trained, moments, variables, batch):
        def loss(trained):
            tuned = with_tower(variables, trained["tower"])
            logits = head_logits(trained["head"], self._pooled(tuned, batch["image"]))
            return sigmoid_loss(logits, batch["members"], batch["mask"])

        gradient = jax.grad(loss)(trained)
        updates, moments = self._optimizer.update(gradient, moments, trained)
        return optax.apply_updates(trained, updates), moments

    def _batches(self, epoch: int) -> Iterator[dict[str, np.ndarray]]:
        """Yields this process's part of an epoch, each batch padded for the devices."""
        members = self._task.train_members.astype(np.float32)
        order = epoch_order(len(members), self._seed, epoch)
        rows, mask = cut_batches(order, self._train_batch_size)
        padding = -self._train_batch_size % self._encoder.mesh.size
        rows = np.where(mask, rows, -1)
        rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=-1)
        batches = self._encoder.view_batches(
            self._train_source,
            rows.shape[1],
            order=rows.ravel(),
            seed=self._seed,
            epoch=epoch,
            augment=self._augment,
        )
        for batch in batches:
            yield {**batch, "members": members[batch.pop("index")]}


def with_tower(variables: Any, tower: Any) -> Any:
    """Returns the variables of a model with other parameters of the image tower."""
    params = variables["params"]
    towers = {**params["towers"], "image": tower}
    return {**variables, "params": {**params, "towers": towers}}


def _copy(parameter: Any) -> Any:
    # In half precision, a rate of 1e-6 changes nothing.
    return jnp.array(parameter, jnp.float32, copy=True)


def _decays(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, _: not _NO_DECAY.search(path_name(path)), params
    )
