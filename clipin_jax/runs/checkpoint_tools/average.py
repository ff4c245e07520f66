"""The mean of the weights of several checkpoints, as a run folder of its own."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from clipin_jax import storage
from clipin_jax.errors import ClipinError, check_range
from clipin_jax.runs.checkpoint import Checkpoints
from clipin_jax.runs.checkpoint_tools.array_reader import read_arrays
from clipin_jax.runs.checkpoint_tools.saved_checkpoint import (
    SavedCheckpoint,
    check_same_model,
    open_checkpoint,
)
from clipin_jax.runs.folder import SOURCES, open_folder, write_file
from clipin_jax.runs.run_copy import CHECKPOINTS, working_copy


def average_checkpoints(
    out: str | Path, sources: Sequence[str], weights: Sequence[float] = ()
) -> int:
    """Writes a run folder with the mean of checkpoints.

    Such a mean is a model soup (arXiv 2203.05482). Its one checkpoint has the
    parameters, those of the target, and the batch statistics of both. It has no state
    of an optimizer, so training cannot go on from it. Means are taken in float64, then
    have the dtype of the array. Config, step and arrays of whole numbers are those of
    the first source. The mean of one source is a copy of its weights.

    Args:
      out: the folder, by path or URL; must not exist.
      sources: RUN or RUN@STEP of each checkpoint.
      weights: of the sources, divided by their sum; () for equal ones.

    Returns:
      The step of the new checkpoint.

    Raises:
      ClipinError: `out` exists, a source cannot be read, two sources are different
        models, or the weights make no sense.
    """
    shares = _shares(weights or [1.0] * len(sources), len(sources))
    if _exists(out):
        raise ClipinError(f"{out} exists: name a new folder for the average")
    opened = [open_checkpoint(source) for source in sources]
    for other in opened[1:]:
        check_same_model(opened[0], other)
    arrays = dict(zip(opened[0].weights, _means(opened, shares), strict=True))
    _write_run(out, opened, shares, arrays)
    return opened[0].step


def _shares(weights: Sequence[float], count: int) -> list[float]:
    if not count:
        raise ClipinError("an average needs at least one checkpoint")
    if len(weights) != count:
        raise ClipinError(f"{len(weights)} weights for {count} checkpoints")
    for weight in weights:
        check_range("a weight", weight, 0, np.inf)
    if not sum(weights):
        raise ClipinError("all weights are 0: give at least one that is larger")
    return [weight / sum(weights) for weight in weights]


def _exists(out: str | Path) -> bool:
    path = storage.full_path(out)
    if storage.is_remote(path):
        return bool(storage.Store(path).names())
    return os.path.lexists(path)


def _means(
    sources: Sequence[SavedCheckpoint], shares: Sequence[float]
) -> Iterator[np.ndarray]:
    """Yields the mean of each array; one of each source is in memory."""
    names = list(sources[0].weights)
    readers = [read_arrays(source, names) for source in sources]
    for first, *others in zip(*readers, strict=True):
        if not jnp.issubdtype(first.dtype, jnp.floating):
            yield first
            continue
        mean = shares[0] * first.astype(np.float64)
        for share, other in zip(shares[1:], others, strict=True):
            mean += share * other.astype(np.float64)
        yield mean.astype(first.dtype)


def _write_run(
    out: str | Path,
    sources: Sequence[SavedCheckpoint],
    shares: Sequence[float],
    arrays: dict[str, np.ndarray],
) -> None:
    """Writes the run folder; of a failure, nothing is left."""
    record = [
        {"run": source.copy.name, "step": source.step, "weight": share}
        for source, share in zip(sources, shares, strict=True)
    ]
    with working_copy(out) as run:
        try:
            open_folder(sources[0].config, run.folder, run.name)
            write_file(run.folder / SOURCES, json.dumps(record, indent=2) + "\n")
            checkpoints = Checkpoints(run.folder / CHECKPOINTS)
            with contextlib.closing(checkpoints):
                checkpoints.save(sources[0].step, arrays, {}, force=True)
        except BaseException:
            shutil.rmtree(run.folder, ignore_errors=True)
            raise


def read_sources(folder: Path) -> list[str]:
    """Returns what the weights of a run folder are the mean of; [] of a trained run.

    Each text is RUN@STEP with its weight.

    Raises:
      ClipinError: the file that lists it is damaged.
    """
    path = folder / SOURCES
    if not path.is_file():
        return []
    try:
        return [
            f"{source['run']}@{source['step']} (weight {source['weight']:.4g})"
            for source in json.loads(path.read_text())
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise ClipinError(f"{path} is damaged: {error!r}") from error
