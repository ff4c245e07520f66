"""Embeds all records of a data source to a file, in their order."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import pyarrow as pa
from tqdm import tqdm

from clipin_jax import storage
from clipin_jax.data import make_source
from clipin_jax.data.source import Source
from clipin_jax.embeddings.embedded_records import embed_records
from clipin_jax.embeddings.files import (
    Origin,
    check_name,
    read_origin,
    write_embeddings,
)
from clipin_jax.embeddings.parts import Parts, own_parts
from clipin_jax.embeddings.rows import IMAGE, KINDS
from clipin_jax.embeddings.shares import Shares, SharesOnDask, choose_shares
from clipin_jax.errors import ClipinError, check_choice
from clipin_jax.inference.model import Model, load
from clipin_jax.interop.hub import HUB
from clipin_jax.parts.dask_runner import make_on_dask
from clipin_jax.parts.part import Part
from clipin_jax.parts.run import How
from clipin_jax.runs.compile_cache import use_compile_cache

PART_SECONDS, PART_RECORDS = 15.0, 65_536  # a part ends with the first of both


def embed_source(
    model: Model,
    source_arguments: Mapping[str, Any],
    output: str | Path,
    *,
    what: str = IMAGE,
    part_seconds: float = PART_SECONDS,
    how: How = How(),
    show_progress: bool = True,
) -> int:
    """Embeds a data source to a file; a call that was stopped goes on where it was.

    Finished parts are kept in the folder `OUTPUT.parts` until the file is written. It
    appears whole. As in evaluation, no record is left out.

    Args:
      model: from `load`; its `batch_size` is that of images and of texts.
      source_arguments: of `data.make_source`, with `name`.
      output: a file that ends with .npy or .parquet, see `files`.
      what: "image", "text" (every caption) or "both".
      part_seconds: at most so much work is lost when it is stopped, besides one batch.
      how: all of it, here or on Dask; the share of one of several machines; or only
        the file from finished shares.
      show_progress: whether a bar is shown.

    Returns:
      The number of vectors that were computed now; 0 if the file was complete.

    Raises:
      ClipinError: a wrong source or output, embeddings of something else there, a
        record that cannot be read, a share that is missing, or a disk that is full.
    """
    check_choice("what", what, KINDS)
    output = Path(output)
    check_name(output)
    source, origin = _open(model, source_arguments, what)
    if _is_complete(output, origin):
        return 0
    task = _Task(model, source, origin, output, part_seconds, show_progress)
    try:
        if how.part:
            shares = Shares(len(source), model.batch_size, how.part.count)
            return _add_share(task, shares, how.part)
        with own_parts(output):
            count = _add_shares(task, source_arguments, how)
            parts = Parts(output, origin)
            count += _add_parts(task, parts, len(source))
            write_embeddings(output, origin, parts.paths)
            parts.remove()
            return count
    except OSError as error:
        raise ClipinError(
            f"{output} cannot be written: {error.strerror or error}; the same command "
            "goes on with the finished parts"
        ) from error


class _Task(NamedTuple):
    """What is embedded, and how; see `embed_source`."""

    model: Model
    source: Source
    origin: Origin
    output: Path
    part_seconds: float
    show_progress: bool


def _open(
    model: Model, arguments: Mapping[str, Any], what: str
) -> tuple[Source, Origin]:
    """Returns a source, and the origin of its embeddings."""
    source = make_source(**arguments)
    if not len(source):
        raise ClipinError(f"source {arguments['name']!r} has no records")
    origin = Origin(
        model.name, model.fingerprint, model.width, dict(arguments),
        source.fingerprint, what,
    )  # fmt: skip
    return source, origin


def _add_shares(task: _Task, source_arguments: Mapping[str, Any], how: How) -> int:
    """Adds what machines that share the records have left; returns the vectors."""
    parts = Parts(task.output, task.origin)
    saved, total = parts.shares(), len(task.source)
    if how.merge:
        _check_finished(parts, saved, total, how)
    if saved:
        shares = Shares(total, batch_size=saved[1], count=saved[0])
    elif how.on:
        shares = choose_shares(total, task.model.batch_size)
    else:
        return 0
    missing = [part for part in shares.parts() if not _is_finished(task, shares, part)]
    if not how.on:
        return sum(_add_share(task, shares, part) for part in missing)
    _check_devices(how)
    parts.share(shares.count, task.model.batch_size)
    embed = functools.partial(
        _embed_on_worker,
        model=_everywhere(task.model.name),
        batch_size=task.model.batch_size,
        source_arguments=dict(source_arguments),
        output=task.output.absolute(),
        what=task.origin.what,
    )
    work = SharesOnDask(task.output, shares.count, embed)
    made = make_on_dask(work, [part.index - 1 for part in missing], how.on, how.workers)
    return sum(entry["vectors"] for _, entry in made)


def _is_finished(task: _Task, shares: Shares, part: Part) -> bool:
    records = shares.records(part)
    return Parts(task.output, task.origin, records.start).done >= records.stop


def _check_devices(how: How) -> None:
    if how.on == "dask" and jax.default_backend() != "cpu":
        raise ClipinError(
            f"--on {how.on} starts processes of this machine, which cannot share its "
            f"{jax.default_backend().upper()}: run it without --on, which uses all "
            "devices, or give the address of a scheduler"
        )


def _everywhere(model: str) -> str:
    """Returns the name of a model in any folder."""
    return model if model.startswith(HUB) else storage.absolute(model)


def _embed_on_worker(
    part: Part, *, model: str, batch_size: int, **arguments: Any
) -> int:
    """Embeds a share in a process of any machine; the model is loaded once in each."""
    loaded = _load(model, batch_size)
    return embed_source(loaded, how=How(part=part), show_progress=False, **arguments)


@functools.lru_cache(1)
def _load(model: str, batch_size: int) -> Model:
    use_compile_cache()
    return load(model, batch_size=batch_size)


def _add_share(task: _Task, shares: Shares, part: Part) -> int:
    """Adds the parts of one machine's share; returns the number of their vectors."""
    with own_parts(task.output, f" {part.index} of {part.count}"):
        records = shares.records(part)
        parts = Parts(task.output, task.origin, records.start)
        parts.share(part.count, task.model.batch_size)
        return _add_parts(task, parts, records.stop)


def _check_finished(
    parts: Parts, saved: tuple[int, int] | None, total: int, how: How
) -> None:
    """Raises ClipinError unless all records are embedded."""
    if parts.done == total:
        return
    if saved is None:
        raise ClipinError(
            f"{parts.folder} has no parts of several machines: make them first, as by "
            f"{how.command('--part', '1/16')}"
        )
    part = Shares(total, batch_size=saved[1], count=saved[0]).part_of(parts.done)
    raise ClipinError(
        f"record {parts.done:,} of {total:,} is not embedded in {parts.folder}: run "
        f"{how.command('--part', part)}"
    )


def _is_complete(output: Path, origin: Origin) -> bool:
    saved = read_origin(output)
    if saved and (difference := saved.difference(origin)):
        raise ClipinError(
            f"{output} has embeddings of {difference}: remove it, or choose another "
            "--output"
        )
    return saved is not None


def _add_parts(task: _Task, parts: Parts, stop: int) -> int:
    """Adds the parts before a record; returns the number of their vectors."""
    records, count = range(parts.done, stop), 0
    tables: list[pa.Table] = []
    begin, what = time.monotonic(), task.origin.what
    with tqdm(
        total=stop, initial=parts.done, desc="embed", unit="record",
        dynamic_ncols=True, disable=not task.show_progress,
    ) as bar:  # fmt: skip
        for end, table in embed_records(task.model, task.source, records, what):
            tables.append(table)
            count += len(table)
            bar.update(end - bar.n)
            is_old = time.monotonic() - begin >= task.part_seconds
            if end == stop or is_old or end - parts.done >= PART_RECORDS:
                parts.add(end, pa.concat_tables(tables))
                tables, begin = [], time.monotonic()
    return count
