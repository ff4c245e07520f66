"""One process at a time writes a run folder: the one that `owner.json` names.

The owner rewrites the file every few seconds. A file whose process is gone, or that
stays the same for a minute, is stale: the next process replaces it.
"""

import contextlib
import datetime
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clipin_jax import storage
from clipin_jax.errors import ClipinError, RetryableError

FILE = "owner.json"
LAUNCH_FOLDER = "launch"  # of `clipin launch`
BESIDE = {FILE, LAUNCH_FOLDER}  # what a folder may have before it is a run's
BEAT_SECONDS = 10.0  # between two writes of the owner
STALE_SECONDS = 60.0  # without a write, after which an owner on another host is gone
_CONFIRM_SECONDS = 2.0  # in which another process may replace the same stale file


class FolderInUseError(RetryableError):
    """Another process owns a folder, and it is alive."""


@contextlib.contextmanager
def own_folder(
    workdir: str | Path, *, beat: float = BEAT_SECONDS, stale: float = STALE_SECONDS
) -> Iterator[None]:
    """Holds the run folder until the end of the context; makes it if it is not there.

    A folder that was made, and in which nothing else was written, is removed again.

    Args:
      workdir: of the run; also on a disk that several hosts share, or a URL.
      beat: seconds between two writes of the file.
      stale: seconds without a write after which an owner on another host is gone.

    Raises:
      FolderInUseError: another process owns the folder, such as one that still saves.
      ClipinError: the folder cannot be written.
    """
    workdir = storage.full_path(workdir)
    path, owner = storage.join(workdir, FILE), _this_process()
    try:
        made = storage.make_folder(workdir)
        _acquire(path, owner, stale)
    except OSError as error:
        raise ClipinError(
            f"cannot write {path}: {error.strerror or error}; choose another --workdir"
        ) from error
    stop = threading.Event()
    thread = threading.Thread(target=_beat, args=(path, owner, beat, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        with contextlib.suppress(OSError):
            if _is_ours(path, owner):
                storage.remove(path)
            if made:
                os.rmdir(workdir)  # fails, as it should, if there is anything in it


def seems_owned(workdir: Path) -> bool:
    """Returns whether a process owns a folder of a disk, as far as is known at once.

    False is an invitation to try `own_folder`, which is certain.
    """
    path = workdir / FILE
    try:
        other, age = _read(str(path)), time.time() - path.stat().st_mtime
    except OSError:
        return False
    if not other or _is_gone(other):
        return False
    return _is_alive(other) or 0 <= age < STALE_SECONDS


def _acquire(path: str, owner: dict[str, Any], stale: float) -> None:
    gone = None
    while True:
        with _one_at_a_time(storage.parent(path)) as locked:
            if gone is not None and _read(path) == gone:
                storage.remove(path)
            if _create(path, owner):
                if gone is None or locked or _is_still_ours(path, owner):
                    return
        gone = _wait_until_stale(path, stale)


@contextlib.contextmanager
def _one_at_a_time(folder: str) -> Iterator[bool]:
    """Keeps two processes from replacing the same stale file; False if it cannot."""
    if storage.is_remote(folder):
        yield False
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield _lock(handle)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:  # some network disks have no such locks
        return False
    return True


def _create(path: str, owner: dict[str, Any]) -> bool:
    """Creates the file; False if it exists, also when two processes try at once."""
    try:
        storage.create(path, json.dumps(owner).encode())
    except FileExistsError:
        return False
    return True


def _is_still_ours(path: str, owner: dict[str, Any]) -> bool:
    """Whether no other process that saw the same stale file has replaced ours."""
    time.sleep(_CONFIRM_SECONDS)
    return _is_ours(path, owner)


def _wait_until_stale(path: str, stale: float) -> dict[str, Any] | None:
    """Returns the owner if it is gone, None if it has released the folder.

    Raises:
      FolderInUseError: the owner is alive.
    """
    first = _read(path)
    end = time.monotonic() + stale
    while True:
        other = _read(path)
        if other is None:
            return None
        if _is_alive(other) or other != first:
            raise FolderInUseError(_in_use(path, other))
        if _is_gone(other) or time.monotonic() >= end:
            return other
        time.sleep(min(1.0, stale / 10))


def _in_use(path: str, other: dict[str, Any]) -> str:
    return (
        f"{storage.parent(path)} is in use by process {other.get('process')} on host "
        f"{other.get('host')} since {other.get('since')}: wait until that run ends, or "
        "choose another --workdir"
    )


def _is_alive(other: dict[str, Any]) -> bool:
    """Whether the owner is a process of this host that runs."""
    return _here(other) and process_started(other["process"]) == other.get("started")


def _is_gone(other: dict[str, Any]) -> bool:
    """Whether the owner was a process of this host; of other hosts nobody knows."""
    return _here(other) and not _is_alive(other)


def _here(other: dict[str, Any]) -> bool:
    this = _this_process()
    return all(other.get(key) == this[key] for key in ("host", "namespace"))


def _this_process() -> dict[str, Any]:
    number = os.getpid()
    return {
        "process": number,
        "host": socket.gethostname(),
        "namespace": _namespace(),
        "started": process_started(number),
        "since": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "beat": 0,
    }


def _namespace() -> str:
    """Where process numbers count: containers may share the name of their host."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux
        return ""


def process_started(process: int) -> str:
    """Returns when a process started, since numbers are given again; "" if it is gone.

    Without /proc it is only known whether a process of that number runs.
    """
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
        state, *fields = stat.rpartition(")")[2].split()
        return "" if state in "ZX" else fields[18]
    except OSError:
        pass
    if Path("/proc/self").exists():
        return ""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "running"


def _read(path: str) -> dict[str, Any] | None:
    """Returns the content; {} if it is not yet written, None if there is no file."""
    try:
        content = json.loads(storage.read(path))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _is_ours(path: str, owner: dict[str, Any]) -> bool:
    other = _read(path) or {}
    return all(other.get(key) == owner[key] for key in owner if key != "beat")


def _beat(
    path: str, owner: dict[str, Any], seconds: float, stop: threading.Event
) -> None:
    """Writes a new number while the file is ours; a full disk does not stop a run."""
    for number in range(1, 1 << 62):
        if stop.wait(seconds):
            return
        with contextlib.suppress(OSError):
            if not _is_ours(path, owner):
                return
            storage.write(path, json.dumps(owner | {"beat": number}).encode())
