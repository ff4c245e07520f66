"""Renders a job and hands it to its engine, all or nothing."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
from collections.abc import Callable, Iterator, Mapping

from clipin_jax import storage
from clipin_jax.errors import ClipinError, RetryableError, did_you_mean, shorten_path
from clipin_jax.launchers.clients import check_client
from clipin_jax.launchers.engine import Engine
from clipin_jax.launchers.engines import ENGINES
from clipin_jax.launchers.job import Job
from clipin_jax.launchers.record import (
    Launch,
    find_launch,
    launch_path,
    write_launch,
)
from clipin_jax.launchers.site import changed_settings, engine_of


def render(job: Job, engine: Engine) -> Mapping[str, str]:
    """Returns the files of a job by name; the first one is what is submitted.

    Args:
      job: what to run.
      engine: see `make_engine`.

    Raises:
      ClipinError: a setting is missing or wrong, or the engine cannot reach the folder.
    """
    return engine.render(_here(job, engine))


def submit(
    job: Job, engine: Engine, prepare: Callable[[], None] = lambda: None
) -> Launch:
    """Submits a job, and writes its record and files into the folder of the run.

    Args:
      job: what to run.
      engine: see `make_engine`.
      prepare: writes what the job needs in its folder.

    Returns:
      The record, which `read_launch` finds again.

    Raises:
      ClipinError: as `render`; or there is no client, it refused, or the folder has a
        job that has not ended. Then nothing is submitted and nothing is left.
    """
    job = _here(job, engine)
    files = engine.render(job)
    check_client(engine.client, engine.client_source)
    _check_free(job.workdir)
    with _folder(job.workdir):
        prepare()
        ids = engine.submit(job, files)
    launch = Launch(
        engine=next(name for name, kind in ENGINES.items() if kind is type(engine)),
        settings=changed_settings(engine),
        name=job.name,
        command=job.command,
        workdir=job.workdir,
        ids=tuple(ids),
        files=tuple(files),
        submitted=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    )
    try:
        for name, text in files.items():
            storage.write(launch.path(name), text.encode())
        write_launch(launch)
    except OSError as error:
        raise ClipinError(
            f"{launch.engine} has taken the job as {' '.join(ids)}, but its record "
            f"cannot be written: {error.strerror or error}"
        ) from error
    return launch


def engine_for(launch: Launch) -> Engine:
    """Returns the engine of a record. Raises ClipinError."""
    if launch.engine not in ENGINES:
        raise ClipinError(
            f"{launch.workdir} was launched on {launch.engine!r}: "
            f"{did_you_mean(launch.engine, ENGINES)}"
        )
    engine = engine_of(launch.engine, launch.settings)
    check_client(engine.client, engine.client_source)
    return engine


def _here(job: Job, engine: Engine) -> Job:
    """Returns the job with a folder that does not depend on the current one."""
    if storage.is_remote(job.workdir):
        return job
    path = os.path.abspath(os.path.expanduser(job.workdir))
    return job.at(path) if engine.sees(path) else job


def _check_free(workdir: str) -> None:
    if not (launch := find_launch(workdir)):
        return
    state = engine_for(launch).state(launch)
    if state.is_active:
        raise RetryableError(
            f"{shorten_path(workdir)} has a job on {launch.engine} ({state.text}): "
            f"wait for its end, or clipin launch stop {shorten_path(workdir)}"
        )


@contextlib.contextmanager
def _folder(workdir: str) -> Iterator[None]:
    """Makes the folder of launches; what was made is removed after an error."""
    folder = launch_path(workdir, "").rstrip("/")
    if storage.is_remote(folder):
        yield
        return
    missing = [path for path in _with_parents(folder) if not os.path.isdir(path)]
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise ClipinError(
            f"cannot make {shorten_path(folder)}: {error.strerror}; choose another "
            "--workdir"
        ) from error
    try:
        yield
    except BaseException:
        if missing:
            shutil.rmtree(missing[-1])
        raise


def _with_parents(folder: str) -> Iterator[str]:
    while folder != os.path.dirname(folder):
        yield folder
        folder = os.path.dirname(folder)
