"""Towers on some rows at a time, objectives on the whole batch, and one exact gradient.

Sources: GradCache, arXiv 2101.06983; BASIC, arXiv 2111.10050, section 4. A step has
three passes, of which only the last keeps activations, those of one piece:

1. the towers run on the pieces, without gradient; their `pooled` vectors are kept;
2. heads and losses run on the vectors of the whole batch, with the gradient by their
   parameters and by the vectors;
3. the towers run on the pieces again, with the gradient by their parameters, given that
   by the vectors.

Objectives that average over pairs (`pair_objectives`) wait for the third pass, which
adds up their sums and their gradient. The gradient by a sum is the weight of the loss
over the number of things in the whole batch. That number is a function of the data
alone, so that the first pass counts it without running more.

A piece is of the rows of one device, so that no row moves, and the gradients of all
pieces are added up before devices exchange them, once. There each device holds all
parameters of the towers, also where it keeps a share of them.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from clipin_jax.core.learner import MODALITIES, OTHER_VIEW, Learner, view_of
from clipin_jax.core.micro_batches.pair_objectives import (
    Means,
    PairInputs,
    Rngs,
    is_of_a_tower,
    of_pieces,
    pair_targets,
    run_pairs,
    runs_on_pieces,
)
from clipin_jax.core.parameter_paths import Params, add, merge, split
from clipin_jax.models.layers import Split, at_least_float32, mesh_split
from clipin_jax.models.remat import computed_again
from clipin_jax.objectives.base import OTHER_IMAGE, OTHER_TEXT, reads_of
from clipin_jax.objectives.losses import Mean
from clipin_jax.types import Array, Batch, Metrics, Pooled, View

# A loss, its metrics, and what else its function returns.
Loss = tuple[Array, tuple[Metrics, Any]]
LossFn = Callable[[Params, Pooled | None], Loss]
Gradient = Callable[[Params], tuple[Loss, Params]]
Views = Mapping[str, View]
_SPLIT, _WHOLE = "split", "whole"  # how devices hold an argument or a result
_PAIRS = PairInputs._make([_SPLIT, _WHOLE, _WHOLE, _WHOLE])  # likewise, for each field
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
      pairs: for objectives that average over pairs; None if there are none, and in the
        target branch.
    """

    learner: Learner
    count: int
    views: Views
    rngs: Rngs
    pairs: PairInputs | None = None

    def value_and_grad(
        self,
        loss_fn: LossFn,
        fixed: Mapping[str, Any],
        copies: Callable[[Params], Params],
    ) -> Gradient:
        """Returns a function like `jax.value_and_grad(loss_fn, has_aux=True)`.

        Args:
          loss_fn: of trained parameters and `pooled`. With `pooled`, it leaves out
            objectives that average over pairs, and calls no tower: it is given no
            trained parameters of those.
          fixed: all other variables.
          copies: parameters -> those that towers compute with, see `compute_copies`.
        """
        if self.count == 1:
            return jax.value_and_grad(loss_fn, has_aux=True)
        heads_gradient = jax.value_and_grad(loss_fn, argnums=(0, 1), has_aux=True)

        def gradient(trained: Params) -> tuple[Loss, Params]:
            own, _ = split(trained, functools.partial(runs_on_pieces, self.learner))
            _, heads = split(trained, is_of_a_tower)
            # Those of objectives, which may learn the weights of their losses.
            scalars, _ = split(own, lambda path: not path.startswith("towers/"))
            constant = {**fixed, "params": copies(fixed["params"])}
            copied = copies(own)
            with computed_again():  # with a gradient, by `_last_pass`
                pooled, counted = self._first_pass(_with_params(constant, copied))
            result, (grads, by_pooled) = heads_gradient(heads, pooled)
            weigh = functools.partial(self._weigh, fixed)
            by_means = jax.grad(weigh, argnums=1, has_aux=True, allow_int=True)
            own_grads, means = self._last_pass(
                copied, constant, by_pooled, _totals(by_means(scalars, counted)[0])
            )
            weighed = jax.value_and_grad(weigh, has_aux=True)(scalars, means)
            own_grads = add(jax.tree.map(_cast_like, own_grads, own), weighed[1])
            return _add_losses(result, weighed[0]), add(grads, own_grads)

        return gradient

    def pool(self, variables: Mapping[str, Any]) -> Pooled | None:
        """Returns `pooled` of all views, without gradient; None if there are no pieces.

        Args:
          variables: of the learner.
        """
        return None if self.count == 1 else self._first_pass(variables)[0]

    def _first_pass(
        self, variables: Mapping[str, Any]
    ) -> tuple[Pooled, Mapping[str, Means]]:
        """Returns `pooled` of all views, and the means of the batch with totals of 0.

        The compiler leaves out what only totals depend on.
        """
        devices = mesh_split()

        def local(variables: Any, views: Views, rngs: Rngs, pairs: Any) -> Any:
            def run(name: str) -> tuple[Any, Means]:
                def run_piece(piece: Any) -> tuple[Any, Means]:
                    (pooled, _), means = self._run(name, variables, pairs, piece)
                    return pooled, jax.tree.map(_without_total, means, is_leaf=_is_mean)

                pieces = self._cut(name, views, rngs, pairs, devices)
                return jax.lax.map(run_piece, pieces)

            outputs = {name: run(name) for name in views}
            pooled = {name: pooled for name, (pooled, _) in outputs.items()}
            means = {name: means for name, (_, means) in outputs.items()}
            pooled = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), pooled)
            return pooled, _add_devices(devices, self._add_pieces(means))

        inputs = _WHOLE, _SPLIT, _WHOLE, self.pairs and _PAIRS
        program = _over_devices(devices, local, inputs, (_SPLIT, _WHOLE))
        variables = of_pieces(self.learner, variables)
        return program(variables, self.views, self.rngs, self.pairs)

    def _last_pass(
        self,
        params: Params,
        fixed: Mapping[str, Any],
        by_pooled: Pooled,
        by_totals: Mapping[str, Mapping[str, Array]],
    ) -> tuple[Params, Mapping[str, Means]]:
        """Returns the gradient by the parameters of pieces, and the means of the batch.

        The gradient is in at least float32: the sum of many in half precision loses
        small ones.

        Args:
          params: with a gradient.
          fixed: all other variables.
          by_pooled: the gradient of the loss by `pooled`.
          by_totals: that by totals of means, view -> objective -> scalar.
        """
        devices = mesh_split()

        def local(params: Params, fixed: Any, by_pooled: Any, *rest: Any) -> Any:
            views, rngs, pairs, by_totals = rest

            def run_piece(name: str, total: Params, piece: Any) -> tuple[Params, Means]:
                piece, by_vectors = piece
                _, pull, means = jax.vjp(
                    lambda params: self._run(
                        name, _with_params(fixed, params), pairs, piece
                    ),
                    params,
                    has_aux=True,
                )
                (gradient,) = pull((by_vectors, by_totals.get(name, {})))
                return jax.tree.map(jnp.add, total, gradient), means

            total = jax.tree.map(
                lambda x: jnp.zeros(x.shape, at_least_float32(x.dtype)), params
            )
            means = {}
            for name in views:
                pieces = self._cut(name, views, rngs, pairs, devices)
                pieces = pieces, self._split(by_pooled[name])
                run = functools.partial(run_piece, name)
                total, means[name] = jax.lax.scan(run, total, pieces)
            return _add_devices(devices, (total, self._add_pieces(means)))

        inputs = _WHOLE, _WHOLE, _SPLIT, _SPLIT, _WHOLE, self.pairs and _PAIRS, _WHOLE
        program = _over_devices(devices, local, inputs, _WHOLE)
        fixed = of_pieces(self.learner, fixed)
        return program(
            params, fixed, by_pooled, self.views, self.rngs, self.pairs, by_totals
        )

    def _run(self, name: str, variables: Any, pairs: Any, piece: Any) -> Any:
        """Runs a piece of a view.

        Returns:
          What has a gradient, `pooled` of each modality and the total of the loss of
          each objective that averages over pairs; then the means of these objectives.
        """
        view, rngs, rows, target_rngs = piece
        if pairs is None or name not in self.learner.online_views:
            apply = functools.partial(self.learner.apply, variables, rngs=rngs)
            return (apply(view, method="pool"), {}), {}
        targets: dict[str, Any] = {}
        for target, streams in target_rngs.items():
            made: Any = self.learner.apply(
                pairs.target_variables, rows, name, target,
                rngs=streams, method=pair_targets,
            )  # fmt: skip
            targets |= made
        result: Any = self.learner.apply(
            variables, rows, name, targets, pairs.hyper, rngs=rngs, method=run_pairs
        )
        pooled, means = result
        return (pooled, {key: loss.total for key, (loss, _) in means.items()}), means

    def _weigh(
        self, fixed: Mapping[str, Any], scalars: Params, means: Mapping[str, Means]
    ) -> tuple[Array, Metrics]:
        """Returns the loss and metrics of means over pairs."""
        hyper = self.pairs.hyper if self.pairs else {}
        values = jax.tree.map(lambda mean: mean.value, means, is_leaf=_is_mean)
        variables = _with_params(fixed, scalars)
        result: Any = self.learner.apply(variables, values, hyper, method="weigh")
        return result

    def _cut(
        self, name: str, views: Views, rngs: Rngs, pairs: Any, devices: Split
    ) -> Any:
        """Returns what differs between pieces of a view, with [count] in front."""
        own = self._split(views[name]), self._rngs(rngs, name, devices)
        if pairs is None:
            return *own, None, None
        target_rngs = {
            view: self._rngs(pairs.target_rngs, view, devices) for view in OTHER_VIEW
        }
        return *own, self._split(pairs.batch), target_rngs

    def _split(self, tree: Any) -> Any:
        """Returns the rows of a device, [b, ...], as pieces: [count, b/count, ...]."""
        return jax.tree.map(lambda x: x.reshape(self.count, -1, *x.shape[1:]), tree)

    def _add_pieces(self, means: Mapping[str, Any]) -> dict[str, Means]:
        """Returns the means [count] of pieces as those of all, for online views."""
        of_online = {v: means[v] for v in self.learner.online_views if v in means}
        return jax.tree.map(lambda x: x.sum(axis=0), of_online)

    def _rngs(self, rngs: Rngs, name: str, devices: Split) -> Rngs:
        """Returns the streams [count] of the pieces of a view on this device."""
        device = jax.lax.axis_index(devices.axes) if devices.axes else 0
        before = list(OTHER_VIEW).index(name) * devices.devices + device
        first = before * self.count
        fold_in = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
        numbers = first + jnp.arange(self.count)
        return {stream: fold_in(key, numbers) for stream, key in rngs.items()}


def _cast_like(x: Array, like: Array) -> Array:
    return x.astype(like.dtype)


def _is_mean(x: Any) -> bool:
    return isinstance(x, Mean)


def _without_total(mean: Mean) -> Mean:
    return mean._replace(total=jnp.zeros_like(mean.total))


def _totals(means: Mapping[str, Means]) -> dict[str, dict[str, Array]]:
    """Returns the totals of losses, view -> objective -> scalar."""
    return {
        view: {name: loss.total for name, (loss, _) in of_view.items()}
        for view, of_view in means.items()
    }


def _add_losses(first: Loss, second: tuple[Array, Metrics]) -> Loss:
    """Returns the sum of two losses, and the metrics of both."""
    (loss, (metrics, rest)), (more, others) = first, second
    return loss + more, ({**metrics, **others, "loss": loss + more}, rest)


def _add_devices(devices: Split, tree: Any) -> Any:
    return jax.lax.psum(tree, devices.axes) if devices.axes else tree


def _over_devices(
    devices: Split, function: Callable, inputs: Any, outputs: Any
) -> Callable[..., Any]:
    """Returns a function of the batch that runs on every device with its own rows."""
    if not devices.axes:
        return function
    specs = {_SPLIT: PartitionSpec(devices.axes), _WHOLE: PartitionSpec()}
    inputs, outputs = jax.tree.map(specs.__getitem__, (inputs, outputs))
    return jax.shard_map(function, in_specs=inputs, out_specs=outputs, check_vma=False)


def _with_params(variables: Mapping[str, Any], params: Params) -> dict[str, Any]:
    return {**variables, "params": merge(variables["params"], params)}
