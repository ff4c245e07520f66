"""The shares of a source's records that machines embed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from clipin_jax.parts.folder import Entry
from clipin_jax.parts.part import Part, part_of

# On Dask: batches of a share at least, as the first one waits for its images; and how
# many shares at most, so that each has its own parts, but there are not too many files.
_LEAST_BATCHES, _MOST_SHARES = 8, 512


class Shares(NamedTuple):
    """Records in shares of whole batches, which are those of one process.

    Attributes:
      total: number of records.
      batch_size: records of a batch.
      count: number of shares. Some are empty if there are more of them than batches.
    """

    total: int
    batch_size: int
    count: int

    def parts(self) -> Iterator[Part]:
        """Yields all shares in order."""
        return (Part(index, self.count) for index in range(1, self.count + 1))

    def records(self, part: Part) -> range:
        """Returns the records of a share."""
        batches = part.numbers(self._batches)
        return range(
            min(self.total, batches.start * self.batch_size),
            min(self.total, batches.stop * self.batch_size),
        )

    def part_of(self, record: int) -> Part:
        """Returns the share that a record is in."""
        return part_of(record // self.batch_size, self._batches, self.count)

    @property
    def _batches(self) -> int:
        return -(-self.total // self.batch_size)


def choose_shares(total: int, batch_size: int) -> Shares:
    """Returns shares for any number of workers."""
    batches = -(-total // batch_size)
    count = max(1, min(_MOST_SHARES, batches // _LEAST_BATCHES))
    return Shares(total, batch_size, count)


class SharesOnDask(NamedTuple):
    """Shares as workers of Dask make them, see `parts.job.Shards`.

    Attributes:
      folder: what the shares belong to.
      count: number of shares.
      embed: embeds a share; returns the number of vectors that were computed.
    """

    folder: Path
    count: int
    embed: Callable[[Part], int]

    def make(self, number: int) -> Entry:
        """Embeds a share by its number from 0, unless it is finished."""
        return {"vectors": self.embed(Part(number + 1, self.count))}
