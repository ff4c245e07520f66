"""Counts the arithmetic that the model needs in a training step, from its program.

It counts the products of matrices and the convolutions of towers, heads and losses,
forward and backward, of the online and the target branch, as the traced step has them
before the compiler: two operations for each multiplication. It leaves out

- what is computed again: by `model.remat`, by losses in blocks, by the backward pass of
  a kernel, and by the first pass over micro-batches;
- the optimizer, and views that devices make;
- everything that is no product: norms, activations, softmax, tables of embeddings.

This is the numerator of the model FLOPs utilization of PaLM (arXiv 2204.02311,
appendix B), without its assumption that a backward pass is twice a forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from jax.extend import core

from clipin_jax.core.step import OPTIMIZER, VIEWS
from clipin_jax.models.remat import AGAIN
from clipin_jax.runs.build import Experiment

_LEFT_OUT = {AGAIN, OPTIMIZER, VIEWS}
# Kernels of cuDNN are one operation each; products of [queries, keys, size] in it,
# without the one that the backward pass computes again.
_CUDNN_PRODUCTS = {
    "dot_product_attention_fwd_wrapper": 2,
    "dot_product_attention_bwd_wrapper": 4,
}


def step_flops(train_step: Any, experiment: Experiment) -> float:
    """Returns the operations of one training step of a model, over all devices.

    The step is traced, which its first call then need not do; nothing is compiled.

    Args:
      train_step: from `jit_train_step`.
      experiment: of the run. Its mesh is the one of the context.
    """
    inputs = experiment.abstract_batch, experiment.abstract_hyper
    traced = train_step.trace(experiment.abstract_state, *inputs)
    return count_flops(traced.jaxpr.jaxpr)


def count_flops(program: core.Jaxpr) -> float:
    """Returns the operations of all products of a program that are no repetition.

    Of a condition the largest branch counts, of a loop without a known number of turns
    one turn.
    """
    return sum(flops for _, flops in products(program))


def products(program: core.Jaxpr, path: str = "") -> Iterator[tuple[str, float]]:
    """Yields scopes and operations of each product that is no repetition.

    Args:
      program: see `count_flops`.
      path: the scopes that it is within, with "/" between.
    """
    for operation in program.eqns:
        if _is_left_out(operation):
            continue
        name = operation.primitive.name
        within = f"{path}/{operation.source_info.name_stack}"
        if count := _PRODUCTS.get(name):
            yield within, count(operation)
            continue
        inner = [[*products(part, within)] for part in _inner_programs(operation)]
        if name == "cond":
            inner = [max(inner, key=lambda found: sum(flops for _, flops in found))]
        if any(inner):
            repeats = _REPEATS.get(name, _once)(operation.params)
            yield from ((where, repeats * f) for part in inner for where, f in part)


def _is_left_out(operation: core.JaxprEqn) -> bool:
    scopes = str(operation.source_info.name_stack).split("/")
    return not _LEFT_OUT.isdisjoint(scopes)


def _inner_programs(operation: core.JaxprEqn) -> Iterator[core.Jaxpr]:
    for value in operation.params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if isinstance(part, core.ClosedJaxpr):
                yield part.jaxpr
            elif isinstance(part, core.Jaxpr):
                yield part


def _once(params: dict[str, Any]) -> int:
    return 1


def _devices(params: dict[str, Any]) -> int:
    """Returns on how many devices the program of a device runs."""
    return math.prod(params["mesh"].shape[axis] for axis in params["newly_manual_axes"])


# Operation -> how often its program runs.
_REPEATS: dict[str, Callable[[dict[str, Any]], int]] = {
    "scan": lambda params: params["length"],
    "shard_map": _devices,
    "pallas_call": lambda params: math.prod(params["grid_mapping"].grid),
}


def _dot_flops(operation: core.JaxprEqn) -> float:
    (contracted, _), _ = operation.params["dimension_numbers"]
    left, out = _shape(operation.invars[0]), _shape(operation.outvars[0])
    return 2.0 * math.prod(out) * math.prod(left[axis] for axis in contracted)


def _convolution_flops(operation: core.JaxprEqn) -> float:
    """Returns those of the taps of each output, on padding too, but not on holes."""
    kernel, out = _shape(operation.invars[1]), _shape(operation.outvars[0])
    outputs_axis = operation.params["dimension_numbers"].rhs_spec[0]
    taps = math.prod(kernel) // kernel[outputs_axis]
    holes = math.prod(operation.params["lhs_dilation"])  # of a stride's gradient
    repeats = operation.params["batch_group_count"] * holes
    return 2.0 * math.prod(out) * taps / repeats


def _cudnn_flops(operation: core.JaxprEqn) -> float:
    query, key = map(_shape, operation.invars[:2])
    keys_axis = 2 if operation.params["layout"] else 1  # [B, heads, M, D], else [B, M,
    products = _CUDNN_PRODUCTS[operation.primitive.name]
    return 2.0 * products * math.prod(query) * key[keys_axis]


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


# Operation -> its arithmetic.
_PRODUCTS: dict[str, Callable[[core.JaxprEqn], float]] = {
    "dot_general": _dot_flops,
    "conv_general_dilated": _convolution_flops,
    **dict.fromkeys(_CUDNN_PRODUCTS, _cudnn_flops),
}
