"""Run folders of machines in a cloud: in a bucket, or on a disk that they mount."""

from __future__ import annotations

from typing import NamedTuple

from clipin_jax.errors import ClipinError, shorten_path
from clipin_jax.launchers.engine import Engine
from clipin_jax.launchers.job import Job
from clipin_jax.storage import is_remote

MOUNT = "/gcs"  # where the bucket is on machines that mount it
_GCS = "gs://"


class Placed(NamedTuple):
    """A job that its machines can run.

    Attributes:
      job: with the path by which they reach the folder.
      bucket: that they mount at `MOUNT`; "" if they need no mount.
    """

    job: Job
    bucket: str


def place(job: Job, name: str, engine: Engine) -> Placed:
    """Returns a job whose folder the machines of a cloud can write.

    A folder on a disk that they mount stays. One process writes a URL itself. Several
    share a folder, so they mount its bucket.

    Args:
      job: with a folder as this machine names it.
      name: of the engine, for messages.
      engine: with its settings.

    Raises:
      ClipinError: the folder is of this machine, or cannot be mounted.
    """
    workdir, processes = job.workdir, engine.processes
    if not is_remote(workdir):
        if engine.sees(workdir):
            return Placed(job, "")
        raise ClipinError(
            f"--workdir {shorten_path(workdir)} is a folder of this machine, which "
            f"{name} cannot reach: give a folder in a bucket, such as "
            "gs://BUCKET/runs/first"
        )
    if processes == 1:
        return Placed(job, "")
    if not workdir.startswith(_GCS):
        raise ClipinError(
            f"--workdir {shorten_path(workdir)}: {processes} processes of {name} "
            "share a folder, and mount its bucket: give one that starts with gs://"
        )
    bucket, _, folder = workdir.removeprefix(_GCS).partition("/")
    return Placed(job.at(f"{MOUNT}/{folder}"), bucket)
