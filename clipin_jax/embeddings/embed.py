"""Embeds all records of a data source to a file, in their order."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from clipin_jax.data import make_source
from clipin_jax.data.source import Annotations, Record, Source
from clipin_jax.embeddings.files import (
    Origin,
    check_name,
    read_origin,
    write_embeddings,
)
from clipin_jax.embeddings.parts import Parts, own_parts
from clipin_jax.embeddings.rows import (
    BOTH,
    IMAGE,
    KINDS,
    TEXT,
    image_row,
    make_table,
    text_rows,
)
from clipin_jax.errors import ClipinError, check_choice
from clipin_jax.inference.model import Model
from clipin_jax.parts.part import Part, part_of
from clipin_jax.parts.run import How

PART_SECONDS, PART_RECORDS = 15.0, 65_536  # a part ends with the first of both


def embed_source(
    model: Model,
    source_arguments: Mapping[str, Any],
    output: str | Path,
    *,
    what: str = IMAGE,
    part_seconds: float = PART_SECONDS,
    how: How = How(),
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
      how: all of it, the share of one of several machines, or only the file from
        finished shares.

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
    try:
        if how.part:
            return _embed_share(
                how.part, model, source, origin, output, part_seconds=part_seconds
            )
        with own_parts(output):
            parts = Parts(output, origin)
            if how.merge:
                _check_shares(parts, len(source), how)
            count = 0
            for index in range(1, parts.count_shares() + 1):
                count += _embed_share(
                    Part(index, parts.count_shares()), model, source, origin, output,
                    part_seconds=part_seconds,
                )  # fmt: skip
            parts = Parts(output, origin)
            count += _add_parts(parts, model, source, what, part_seconds)
            write_embeddings(output, origin, parts.paths)
            parts.remove()
            return count
    except OSError as error:
        raise ClipinError(
            f"{output} cannot be written: {error.strerror or error}; the same command "
            "goes on with the finished parts"
        ) from error


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


def _embed_share(
    part: Part,
    model: Model,
    source: Source,
    origin: Origin,
    output: Path,
    *,
    part_seconds: float,
) -> int:
    """Adds the parts of one machine's share; returns the number of their vectors."""
    with own_parts(output, f" {part.index} of {part.count}"):
        share = _records(part, len(source), model.batch_size)
        parts = Parts(output, origin, share.start)
        parts.share(part.count, model.batch_size)
        until = _Range(source, 0, share.stop)
        return _add_parts(parts, model, until, origin.what, part_seconds)


def _records(part: Part, total: int, batch_size: int) -> range:
    """Returns the records of a share: the whole batches that one process makes too."""
    batches = part.numbers(-(-total // batch_size))
    return range(
        min(total, batches.start * batch_size), min(total, batches.stop * batch_size)
    )


def _check_shares(parts: Parts, total: int, how: How) -> None:
    """Raises ClipinError unless all records are embedded."""
    if parts.done == total:
        return
    shares = parts.shares()
    if shares is None:
        raise ClipinError(
            f"{parts.folder} has no parts of several machines: make them first, as by "
            f"{how.command('--part', '1/16')}"
        )
    count, batch_size = shares
    batches = -(-total // batch_size)
    part = part_of(parts.done // batch_size, batches, count)
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


def _add_parts(
    parts: Parts, model: Model, source: Source, what: str, part_seconds: float
) -> int:
    """Adds the parts that lack; returns the number of their vectors."""
    total, count = len(source), 0
    tables: list[pa.Table] = []
    begin = time.monotonic()
    with tqdm(
        total=total, initial=parts.done, desc="embed", unit="record", dynamic_ncols=True
    ) as bar:
        for end, table in _tables(model, source, parts.done, what):
            tables.append(table)
            count += len(table)
            bar.update(end - bar.n)
            is_old = time.monotonic() - begin >= part_seconds
            if end == total or is_old or end - parts.done >= PART_RECORDS:
                parts.add(end, pa.concat_tables(tables))
                tables, begin = [], time.monotonic()
    return count


def _tables(
    model: Model, source: Source, start: int, what: str
) -> Iterator[tuple[int, pa.Table]]:
    """Yields the rows of some records at a time, and the index after the last one."""
    for first, images in _image_batches(model, source, start, what):
        end = min(first + model.batch_size, len(source))
        indices = range(first, end if images is None else first + len(images))
        rows, vectors = [], []
        if images is not None:
            rows += [image_row(source, index) for index in indices]
            vectors.append(images)
        if what in (TEXT, BOTH):
            texts = [row for index in indices for row in text_rows(source, index)]
            rows += texts
            vectors.append(model.encode_text([row.caption for row in texts]))
        # An image comes before its captions.
        order = np.argsort([row.index for row in rows], kind="stable")
        table = make_table([rows[n] for n in order], np.concatenate(vectors)[order])
        yield indices[-1] + 1, table


def _image_batches(
    model: Model, source: Source, start: int, what: str
) -> Iterator[tuple[int, np.ndarray | None]]:
    """Yields the first index and the embeddings of batches; None without images."""
    if what == TEXT:
        for first in range(start, len(source), model.batch_size):
            yield first, None
    elif start < len(source):
        for images in model.stream_images(_Range(source, start, len(source))):
            yield start, images
            start += len(images)


class _Range:
    """The records of a source from one on until before another."""

    def __init__(self, source: Source, start: int, stop: int):
        self._source, self._start, self._stop = source, start, stop
        self.classes, self.fingerprint = source.classes, source.fingerprint

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, index: int) -> Record:
        return self._source[self._start + index]

    def annotations(self, index: int) -> Annotations:
        return self._source.annotations(self._start + index)

    def describe(self, index: int) -> str:
        return self._source.describe(self._start + index)
