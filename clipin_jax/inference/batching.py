"""Batches through a compiled function, and every row back where it belongs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from clipin_jax.core import sharding


def shares(count: int, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The part of each batch of indices that is ours, and which are no padding.

    count: how many indices there are; batch_size: a multiple of the processes.
    """
    share = batch_size // jax.process_count()
    offset = share * jax.process_index()
    for start in range(0, count, batch_size):
        index = np.arange(start + offset, start + offset + share)
        mask = index < count
        yield np.where(mask, index, 0), mask


def collect(
    encode: Callable, variables: Any, batches: Iterable[dict], count: int, mesh: Mesh
) -> dict[str, np.ndarray]:
    """Runs the batches and puts every row where its index says: [count, ...].

    encode: what `compiled` returned; batches: with `index` and `mask`.
    """
    features: dict[str, np.ndarray] = {}
    for done in _one_behind(_run(encode, variables, batches, mesh)):
        rows = {name: np.asarray(value) for name, value in done.items()}
        mask, index = rows.pop("mask"), rows.pop("index")
        for name, value in rows.items():
            if name not in features:
                features[name] = np.empty((count, *value.shape[1:]), value.dtype)
            features[name][index[mask]] = value[mask]
    return features


def _run(encode: Callable, variables: Any, batches: Iterable[dict], mesh: Mesh):
    for batch in batches:
        batch = {**batch, "index": batch["index"].astype(np.int32)}
        yield encode(variables, sharding.put(batch, mesh))


@functools.lru_cache(32)  # equal models of a process share what is compiled
def compiled(encode: Callable, keys: tuple[str, ...], mesh: Mesh) -> Callable:
    """`encode(variables, *keys of the batch)` under jit, gathered to every device.

    Index and mask travel with the features, so that the order in which a mesh lays
    out the processes does not matter.
    """

    def run(variables, batch):
        rows = {"index": batch["index"], "mask": batch["mask"]}
        return {**encode(variables, *(batch[key] for key in keys)), **rows}

    return jax.jit(run, out_shardings=sharding.replicated(mesh))


def _one_behind(items: Iterable[Any]) -> Iterator[Any]:
    """Holds one item back, so that the host reads a batch while another computes."""
    held = None
    for item in items:
        if held is not None:
            yield held
        held = item
    if held is not None:
        yield held
