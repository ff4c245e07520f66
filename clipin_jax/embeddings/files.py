"""Files of embeddings: Parquet with all columns, or `.npy` with a table beside it.

The table states where the vectors are from. Both forms have the rows of `rows`; beside
`vectors.npy` they are in `vectors.ids.parquet`, without the vectors.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipin_jax.embeddings.rows import FACTS, VECTOR, Row, schema, table_vectors
from clipin_jax.errors import ClipinError, first_line

ENDINGS = (".npy", ".parquet")
_GROUP = 16_384  # rows of a group in Parquet
_KEY = b"clipin_jax"  # of what the table states
_DAMAGE = (pa.ArrowException, ValueError, KeyError, TypeError)


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where embeddings are from.

    Attributes:
      model: what holds the model.
      fingerprint: of the model, see `Model.fingerprint`.
      width: of the vectors.
      source: the arguments of the data source.
      source_fingerprint: of the source.
      what: image, text or both.
    """

    model: str
    fingerprint: str
    width: int
    source: dict[str, Any]
    source_fingerprint: str
    what: str

    def difference(self, other: Origin) -> str:
        """Returns what makes the vectors of another origin others, "" if nothing."""
        if (self.fingerprint, self.width) != (other.fingerprint, other.width):
            return f"another model ({self.model})"
        if self.source_fingerprint != other.source_fingerprint:
            return f"another source ({self.source})"
        return "" if self.what == other.what else f"another --what ({self.what})"


class Embeddings(NamedTuple):
    """Vectors, and what is known of each.

    Attributes:
      origin: where they are from.
      facts: a table with the columns of `rows.FACTS`.
      vectors: [N, E] float32 of unit norm; those of `.npy` are read when they are used.
    """

    origin: Origin
    facts: pa.Table
    vectors: np.ndarray

    def row(self, number: int) -> Row:
        """Returns what is known of a vector."""
        [row] = self.facts.slice(number, 1).to_pylist()
        return Row(**row)


def check_name(path: Path) -> None:
    """Checks the ending of a file of embeddings. Raises ClipinError."""
    if path.suffix not in ENDINGS:
        raise ClipinError(f"{path}: give a file that ends with {' or '.join(ENDINGS)}")


def read_origin(path: Path) -> Origin | None:
    """Returns where the embeddings of a file are from; None if there is no file.

    Raises:
      ClipinError: it is another file, or damaged.
    """
    check_name(path)
    if not path.is_file():
        return None
    with _reading(path):
        metadata = pq.read_schema(_table_path(path)).metadata or {}
        return Origin(**json.loads(metadata[_KEY]))


def read_embeddings(path: Path) -> Embeddings:
    """Reads a file of embeddings.

    Raises:
      ClipinError: no such file, another one, or a damaged one.
    """
    origin = read_origin(path)
    if origin is None:
        raise ClipinError(f"{path} does not exist: write it by `clipin embed`")
    with _reading(path):
        facts = pq.read_table(_table_path(path), columns=FACTS.names)
        if path.suffix == ".npy":
            vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            column = pq.read_table(path, columns=[VECTOR])
            vectors = table_vectors(column, origin.width)
    if vectors.shape != (len(facts), origin.width):
        raise ClipinError(
            f"{path} has vectors {list(vectors.shape)}, but {_table_path(path)} is of "
            f"{len(facts)} with width {origin.width}: embed the source again"
        )
    return Embeddings(origin, facts, vectors)


def write_table(path: Path, table: pa.Table) -> None:
    """Writes a part of the rows as a whole file. Raises OSError."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    pq.write_table(table, temporary, write_page_checksum=True)
    temporary.replace(path)


def write_embeddings(path: Path, origin: Origin, parts: Sequence[Path]) -> int:
    """Joins parts to a file of embeddings, which appears whole; returns its rows.

    Raises:
      OSError: it cannot be written.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    count = sum(pq.read_metadata(part).num_rows for part in parts)
    if path.suffix == ".parquet":
        _join(temporary, origin, parts, schema(origin.width))
        temporary.replace(path)
        return count
    vectors = np.lib.format.open_memmap(
        temporary, mode="w+", dtype=np.float32, shape=(count, origin.width)
    )
    start = 0
    for part in parts:
        rows = table_vectors(_read_part(part, [VECTOR]), origin.width)
        vectors[start : start + len(rows)] = rows
        start += len(rows)
    vectors.flush()
    del vectors
    table = _table_path(path)
    draft = table.with_name(f"{table.name}.tmp")
    _join(draft, origin, parts, FACTS)
    draft.replace(table)
    temporary.replace(path)  # last: without it there are no embeddings
    return count


def _join(
    path: Path, origin: Origin, parts: Sequence[Path], columns: pa.Schema
) -> None:
    content = json.dumps(dataclasses.asdict(origin), ensure_ascii=False).encode()
    columns = columns.with_metadata({_KEY: content})
    with pq.ParquetWriter(path, columns) as writer:
        for table in _row_groups(parts, columns.names):
            writer.write_table(table.replace_schema_metadata(columns.metadata))


def _row_groups(parts: Sequence[Path], columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yields all rows in tables of one size: the bytes do not depend on the parts."""
    rest: list[pa.Table] = []
    for part in parts:
        table = pa.concat_tables([*rest, _read_part(part, columns)])
        whole = len(table) // _GROUP * _GROUP
        for start in range(0, whole, _GROUP):
            yield table.slice(start, _GROUP).combine_chunks()
        rest = [table.slice(whole)]
    if rest and len(rest[0]):
        yield rest[0].combine_chunks()


def _read_part(part: Path, columns: Sequence[str]) -> pa.Table:
    """Returns a part, whose bytes are those that were written."""
    try:
        return pq.read_table(
            part, columns=list(columns), page_checksum_verification=True
        )
    except (OSError, pa.ArrowException) as error:
        raise ClipinError(
            f"{part} is damaged ({first_line(error)}): remove it, and repeat the "
            "command that wrote it"
        ) from error


def _table_path(path: Path) -> Path:
    """Returns the file with the rows of a file of embeddings."""
    return path if path.suffix == ".parquet" else path.with_suffix(".ids.parquet")


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except ClipinError:
        raise
    except FileNotFoundError as error:
        raise ClipinError(
            f"{error.filename or _table_path(path)} does not exist: it belongs to "
            f"{path}, which `clipin embed` writes"
        ) from error
    except (OSError, *_DAMAGE) as error:
        raise ClipinError(
            f"{path} is damaged, or no file of `clipin embed`: {first_line(error)}"
        ) from error
