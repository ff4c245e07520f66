"""The points of a sweep that are known before it runs: grid, zip, random, quasi."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from scipy.stats import qmc

from clipin_jax.errors import ClipinError
from clipin_jax.sweep.space.axes import Axis, Choices, Space

Assignment = dict[str, str]  # config key -> value, as an override writes it


def grid(space: Space) -> list[Assignment]:
    """Returns every combination of the values; the last key varies fastest.

    Raises:
      ClipinError: a key has a range, or there is no key.
    """
    lists = _lists(space, "grid")
    return [
        dict(zip(space.axes, values, strict=True))
        for values in itertools.product(*lists)
    ]


def zipped(space: Space) -> list[Assignment]:
    """Returns the first values of all keys, then the second ones, and so on.

    Raises:
      ClipinError: a key has a range, the lists differ in length, or there is no key.
    """
    lists = _lists(space, "zip")
    lengths = {key: len(each) for key, each in zip(space.axes, lists, strict=True)}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key} has {count}" for key, count in lengths.items())
        raise ClipinError(f"zip needs as many values of each key: {listed}")
    rows = zip(*lists, strict=True)
    return [dict(zip(space.axes, values, strict=True)) for values in rows]


def random(space: Space, trials: int, seed: int) -> list[Assignment]:
    """Returns points that are drawn independently."""
    return _at(
        space.axes, np.random.default_rng(seed).random((trials, len(space.axes)))
    )


def quasi(space: Space, trials: int, seed: int) -> list[Assignment]:
    """Returns points of a scrambled Sobol sequence, which cover a space evenly.

    The first points of more trials are those of fewer trials.
    """
    sampler = qmc.Sobol(len(space.axes), rng=seed)
    rounded_up = 1 << (trials - 1).bit_length()  # the sequence is balanced at these
    return _at(space.axes, sampler.random(rounded_up)[:trials])


DRAWN: Mapping[str, Callable[[Space, int, int], list[Assignment]]] = {
    "random": random,
    "quasi": quasi,
}
LISTED: Mapping[str, Callable[[Space], list[Assignment]]] = {
    "grid": grid,
    "zip": zipped,
}


def _lists(space: Space, method: str) -> list[tuple[str, ...]]:
    if not space.axes:
        raise ClipinError(
            "the grid is empty: give a key several values, as KEY=a,b,c, or a range, "
            "as KEY=1e-4..1e-2:log"
        )
    lists = [axis.values for axis in space.axes.values() if isinstance(axis, Choices)]
    if len(lists) < len(space.axes):
        raise ClipinError(
            f"{space.ranges[0]} has a range, which is no {method}: give --trials N and "
            "--method random, quasi, tpe, gp or nsga2"
        )
    return lists


def _at(
    axes: Mapping[str, Axis], shares: Iterable[Iterable[float]]
) -> list[Assignment]:
    """Returns each point once; shares: [n, axes] of the axes, from 0 to below 1."""
    points = [
        {key: axis.at(x) for (key, axis), x in zip(axes.items(), row, strict=True)}
        for row in shares
    ]
    return list({tuple(point.items()): point for point in points}.values())
