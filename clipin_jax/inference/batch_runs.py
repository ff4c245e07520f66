"""Runs batches through a compiled function on all devices, and gathers their rows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from clipin_jax.core import sharding

Rows = dict[str, np.ndarray]


@functools.lru_cache(32)  # encoders of equal models share compiled programs
def compile_rows(function: Callable, keys: tuple[str, ...], mesh: Mesh) -> Callable:
    """Compiles `function(variables, *keys of the batch)`; its rows go to all devices.

    Rows have index and mask beside them: no order of processes is assumed.
    """

    def run(variables: Any, batch: dict[str, Any]) -> dict[str, Any]:
        rows = {"index": batch["index"], "mask": batch["mask"]}
        return {**function(variables, *(batch[key] for key in keys)), **rows}

    return jax.jit(run, out_shardings=sharding.replicated(mesh))


def run_batches(
    program: Callable, variables: Any, batches: Iterable[dict], mesh: Mesh
) -> Iterator[tuple[np.ndarray, Rows]]:
    """Yields (index [b], rows [b, ...] by name) of each batch, without its padding.

    Args:
      program: from `compile_rows`.
      variables: its first argument.
      batches: this process's part of each; with `index` and `mask`.
      mesh: devices that share a batch.
    """
    for outputs in _delay_one(_start(program, variables, batches, mesh)):
        rows = {name: np.asarray(value) for name, value in outputs.items()}
        mask, index = rows.pop("mask"), rows.pop("index")
        yield index[mask], {name: value[mask] for name, value in rows.items()}


def collect_rows(
    program: Callable,
    variables: Any,
    batches: Iterable[dict],
    count: int,
    *,
    mesh: Mesh,
) -> Rows:
    """Runs batches and collects their rows by index: [count, ...] by name."""
    collected: Rows = {}
    for index, rows in run_batches(program, variables, batches, mesh):
        for name, value in rows.items():
            if name not in collected:
                collected[name] = np.empty((count, *value.shape[1:]), value.dtype)
            collected[name][index] = value
    return collected


def _start(
    program: Callable, variables: Any, batches: Iterable[dict], mesh: Mesh
) -> Iterator[dict]:
    for batch in batches:
        batch = {**batch, "index": batch["index"].astype(np.int32)}
        with jax.set_mesh(mesh):
            outputs = program(variables, sharding.put(batch, mesh))
        yield outputs


def _delay_one(items: Iterable[Any]) -> Iterator[Any]:
    """Yields items one late: the host reads a batch while the next one computes."""
    previous = None
    for item in items:
        if previous is not None:
            yield previous
        previous = item
    if previous is not None:
        yield previous
