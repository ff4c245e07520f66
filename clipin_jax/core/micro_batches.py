"""Towers on some rows at a time, objectives on the whole batch, and one exact gradient.

Sources: GradCache, arXiv 2101.06983; BASIC, arXiv 2111.10050, section 4. A step has
three passes, of which only the last keeps activations, those of one piece:

1. the towers run on the pieces, without gradient; their `pooled` vectors are kept;
2. heads and losses run on the vectors of the whole batch, with the gradient by their
   parameters and by the vectors;
3. the towers run on the pieces again, with the gradient by their parameters, given that
   by the vectors.

A piece is of the rows of one device, so that no row moves, and the gradients of all
pieces are added up before devices exchange them, once. There each device holds all
parameters of the towers, also where it keeps a share of them.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from clipin_jax.core.freezing import ModulePath
from clipin_jax.core.learner import MODALITIES, OTHER_VIEW, Learner, view_of
from clipin_jax.core.parameter_paths import Params, merge, paths_of, split
from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import Split, at_least_float32, mesh_split
from clipin_jax.models.remat import computed_again
from clipin_jax.objectives.base import OTHER_IMAGE, OTHER_TEXT, TOWERS, reads_of
from clipin_jax.types import Array, Batch, Pooled, View

LossFn = Callable[[Params, Pooled | None], tuple[Array, Any]]
Gradient = Callable[[Params], tuple[tuple[Array, Any], Params]]
Rngs = dict[str, Array]
Views = Mapping[str, View]
_SPLIT, _WHOLE = "split", "whole"  # how devices hold an argument or a result
_OTHERS = {OTHER_IMAGE: "image", OTHER_TEXT: "text"}


def online_inputs(learner: Learner, batch: Batch) -> Views:
    """Returns what the towers of the online branch encode, by view."""
    read = {name for o in learner.objectives.values() for name in reads_of(o)}
    needed: dict[str, Any] = dict.fromkeys(learner.online_views, MODALITIES)
    for other in (OTHER_VIEW[online] for online in learner.online_views):
        if other in batch:  # else it is the online view itself
            others = [modality for name, modality in _OTHERS.items() if name in read]
            needed.setdefault(other, others)
    return {
        name: {m: view_of(batch, name)[m] for m in modalities}
        for name, modalities in needed.items()
        if modalities
    }


def target_inputs(learner: Learner, batch: Batch) -> Views:
    """Returns what the towers of the target branch encode, by view."""
    return {
        name: {m: view_of(batch, name)[m] for m in MODALITIES}
        for name in learner.target_views
    }


@dataclasses.dataclass(frozen=True)
class Pieces:
    """The passes of the towers over the pieces of a batch.

    Attributes:
      learner: has the towers.
      count: pieces of the rows of a device; 1 to run the whole batch as usual.
      views: what the towers encode, view -> modality -> [B, ...].
      rngs: random streams; each piece has its own, the same in every pass.
    """

    learner: Learner
    count: int
    views: Views
    rngs: Rngs

    def value_and_grad(
        self,
        loss_fn: LossFn,
        fixed: Mapping[str, Any],
        copies: Callable[[Params], Params],
    ) -> Gradient:
        """Returns a function like `jax.value_and_grad(loss_fn, has_aux=True)`.

        Args:
          loss_fn: trained parameters and `pooled` -> loss and what else it returns. It
            calls no tower with trained parameters: it is not given any.
          fixed: all other variables of the towers.
          copies: parameters -> those that towers compute with, see `compute_copies`.
        """
        if self.count == 1:
            return jax.value_and_grad(loss_fn, has_aux=True)
        heads_gradient = jax.value_and_grad(loss_fn, argnums=(0, 1), has_aux=True)

        def gradient(trained: Params) -> tuple[tuple[Array, Any], Params]:
            towers, heads = split(trained, _is_of_a_tower)
            variables = {**fixed, "params": copies(fixed["params"])}
            copied = copies(towers)
            with computed_again():  # with a gradient, by `_pull_back`
                pooled = self.pool(_with_params(variables, copied))
            result, (grads, cotangents) = heads_gradient(heads, pooled)
            own = self._pull_back(copied, variables, cotangents)
            return result, merge(grads, jax.tree.map(_cast_like, own, towers))

        return gradient

    def pool(self, variables: Mapping[str, Any]) -> Pooled | None:
        """Returns `pooled` of all views, without gradient; None if there are no pieces.

        Args:
          variables: of the learner.
        """
        if self.count == 1:
            return None
        split = mesh_split()

        def local(variables: Any, views: Views, rngs: Rngs) -> Pooled:
            def run(name: str) -> Any:
                return jax.lax.map(
                    lambda piece: self._run(variables, *piece),
                    (self._rngs(rngs, name, split), self._cut(views[name])),
                )

            outputs = {name: run(name) for name in views}
            return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), outputs)

        program = _over_devices(split, local, (_WHOLE, _SPLIT, _WHOLE), _SPLIT)
        return program(_of_towers(variables), self.views, self.rngs)

    def _pull_back(
        self, towers: Params, fixed: Mapping[str, Any], cotangents: Pooled
    ) -> Params:
        """Returns the gradient by parameters of towers, given that by `pooled`.

        It is in at least float32: the sum of many in half precision loses small ones.
        """
        if not jax.tree.leaves(towers):  # all are frozen
            return {}
        split = mesh_split()

        def local(towers: Params, fixed: Any, *rest: Any) -> Params:
            views, cotangents, rngs = rest

            def add(total: Params, piece: Any) -> tuple[Params, None]:
                *inputs, cotangent = piece
                _, pull = jax.vjp(
                    lambda towers: self._run(_with_params(fixed, towers), *inputs),
                    towers,
                )
                return jax.tree.map(jnp.add, total, pull(cotangent)[0]), None

            total = jax.tree.map(
                lambda x: jnp.zeros(x.shape, at_least_float32(x.dtype)), towers
            )
            for name, view in views.items():
                inputs = self._rngs(rngs, name, split), self._cut(view)
                pieces = *inputs, self._cut(cotangents[name])
                total, _ = jax.lax.scan(add, total, pieces)
            return jax.lax.psum(total, split.axes) if split.axes else total

        inputs = _WHOLE, _WHOLE, _SPLIT, _SPLIT, _WHOLE
        program = _over_devices(split, local, inputs, _WHOLE)
        return program(towers, _of_towers(fixed), self.views, cotangents, self.rngs)

    def _run(self, variables: Any, rngs: Rngs, view: View) -> Any:
        """Returns `pooled` of each modality of a piece."""
        return self.learner.apply(variables, view, rngs=rngs, method="pool")

    def _cut(self, tree: Any) -> Any:
        """Returns the rows of a device, [b, ...], as pieces: [count, b/count, ...]."""
        return jax.tree.map(lambda x: x.reshape(self.count, -1, *x.shape[1:]), tree)

    def _rngs(self, rngs: Rngs, name: str, split: Split) -> Rngs:
        """Returns the streams [count] of the pieces of a view on this device."""
        device = jax.lax.axis_index(split.axes) if split.axes else 0
        first = (list(OTHER_VIEW).index(name) * split.devices + device) * self.count
        fold_in = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
        numbers = first + jnp.arange(self.count)
        return {stream: fold_in(key, numbers) for stream, key in rngs.items()}


def _cast_like(x: Array, like: Array) -> Array:
    return x.astype(like.dtype)


def _over_devices(
    split: Split, function: Callable, inputs: Any, outputs: Any
) -> Callable[..., Any]:
    """Returns a function of the batch that runs on every device with its own rows."""
    if not split.axes:
        return function
    specs = {_SPLIT: PartitionSpec(split.axes), _WHOLE: PartitionSpec()}
    inputs, outputs = jax.tree.map(specs.__getitem__, (inputs, outputs))
    return jax.shard_map(function, in_specs=inputs, out_specs=outputs, check_vma=False)


def _is_of_a_tower(path: str) -> bool:
    """Whether a parameter is of a tower itself, not of what follows `pooled`."""
    return path.startswith(tuple(f"towers/{modality}/" for modality in MODALITIES))


def _of_towers(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the variables of the towers: devices need not hold those of heads."""
    return {name: split(tree, _is_of_a_tower)[0] for name, tree in variables.items()}


def _with_params(variables: Mapping[str, Any], params: Params) -> dict[str, Any]:
    return {**variables, "params": merge(variables["params"], params)}


def check_micro_batches(
    count: int,
    batch_size: int,
    devices: int,
    *,
    learner: Learner,
    collections: Mapping[str, Any],
    frozen: frozenset[ModulePath],
) -> None:
    """Checks that the towers of a learner can run on micro-batches.

    Args:
      count: the key `micro_batches`.
      batch_size: B, a multiple of `devices`.
      devices: of the mesh.
      learner: towers and objectives.
      collections: what online modules keep between steps.
      frozen: from `frozen_modules`.

    Raises:
      ClipinError: they cannot.
    """
    rows = batch_size // devices
    if count < 1 or rows % count:
        raise ClipinError(
            f"micro_batches is {count}: give a divisor of {rows}, the pairs of a device"
        )
    if count == 1:
        return
    for name, objective in learner.objectives.items():
        if TOWERS in reads_of(objective):
            raise ClipinError(
                f"micro_batches is {count}, but objectives.{name} reads more of the "
                "towers than a vector for each image and text: set micro_batches = 1, "
                "or remove the objective"
            )
    for path in paths_of(list(collections.values())):
        _, *names = path.split("/")
        modules = {tuple(names[:depth]) for depth in range(1, len(names))}
        if _is_of_a_tower("/".join(names)) and not modules & frozen:
            raise ClipinError(
                f"micro_batches is {count}, but model.{names[1]} has batch statistics "
                "or other state, which pieces of a batch would change one by one: set "
                "micro_batches = 1, freeze the tower, or choose another"
            )
