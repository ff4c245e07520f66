"""Runs frozen modules in evaluation mode while others train."""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn

from clipin_jax.core.parameter_paths import Params, paths_of

ModulePath = tuple[str, ...]


def frozen_modules(trained: Params, frozen: Params) -> frozenset[ModulePath]:
    """Returns the paths of modules whose parameters are all frozen.

    These are parts of objectives and towers, not objectives and towers themselves,
    whose arguments are also those of other modules.
    """
    return frozenset(_modules(frozen) - _modules(trained))


def _modules(params: Params) -> set[ModulePath]:
    leaves = [tuple(path.split("/")) for path in paths_of(params)]
    return {leaf[:depth] for leaf in leaves for depth in range(2, len(leaf))}


@contextlib.contextmanager
def evaluation_mode(modules: frozenset[ModulePath]) -> Iterator[None]:
    """Sets `train` to False in every method call of these modules.

    So a frozen tower has no dropout, and neither uses nor updates batch statistics: it
    is the same function in every step.
    """

    def in_evaluation_mode(
        method: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        if context.module.path in modules:
            bound = inspect.signature(context.orig_method).bind(*args, **kwargs)
            if "train" in bound.arguments:
                bound.arguments["train"] = False
            args, kwargs = bound.args, bound.kwargs
        return method(*args, **kwargs)

    if not modules:
        yield
        return
    with nn.intercept_methods(in_evaluation_mode):
        yield
