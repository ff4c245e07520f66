"""What can be done in parts: a job whose shards are files, made one by one."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from clipin_jax.parts.folder import Entry, ShardFolder


class Job(Protocol):
    """Work that is cut into shards."""

    @property
    def names(self) -> Sequence[str]:
        """The names of the shards' files, in order."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """What must be equal for shards to belong together, for JSON."""
        ...

    @property
    def known(self) -> Mapping[str, Entry]:
        """Entries of shards that an earlier job finished in the same folder."""
        ...

    @property
    def remedy(self) -> str:
        """What to do if the folder holds something else, for messages."""
        ...

    def make(self, number: int, draft: Path) -> Entry:
        """Writes the file of a shard, with the same bytes every time.

        Returns:
          Facts of the shard for JSON; its `bad` lists the records that were left out.

        Raises:
          ClipinError: it cannot be made, and trying again would not help.
          OSError: a file cannot be read or written.
        """
        ...

    def check_bad(self, bad: Sequence[Mapping[str, Any]]) -> None:
        """Raises ClipinError if so many records are bad that the whole must fail."""
        ...


class Shards(Protocol):
    """What workers of Dask make. It can be pickled."""

    @property
    def folder(self) -> Path:
        """What the shards belong to."""
        ...

    def make(self, number: int) -> Entry:
        """Makes a shard unless it is finished; any process of any machine may call it.

        Returns:
          What is to be known of it.

        Raises:
          ClipinError: another try would not help.
          OSError: a file cannot be read or written.
        """
        ...


class Work(NamedTuple):
    """A job in a folder, as other processes and machines open it. It can be pickled.

    Attributes:
      folder: of the files, on a disk that all machines share.
      open_job: builds the job; a function of a module, or a `functools.partial` of one.
    """

    folder: Path
    open_job: Callable[[], Job]

    def begin(self) -> int:
        """Makes the folder, so that shards can be made; returns their number.

        Raises:
          ClipinError: the folder holds something else.
        """
        job = self.open_job()
        open_folder(self.folder, job).begin()
        return len(job.names)

    def make(self, number: int) -> Entry:
        """Makes a shard unless it is finished; any process of any machine may call it.

        The job is opened once in each process.

        Raises:
          ClipinError: the folder is not on this machine, or holds something else, or
            the shard cannot be made.
          OSError: a file cannot be read or written.
        """
        job, folder = _open(pickle.dumps(self))
        return folder.make(job.names[number], functools.partial(job.make, number))


def open_folder(folder: Path, job: Job) -> ShardFolder:
    """Returns the folder of a job's shards."""
    return ShardFolder(folder, job.facts, known=job.known, remedy=job.remedy)


@functools.lru_cache(1)
def _open(content: bytes) -> tuple[Job, ShardFolder]:
    work: Work = pickle.loads(content)
    job = work.open_job()
    folder = open_folder(work.folder, job)
    folder.check_begun()
    return job, folder
