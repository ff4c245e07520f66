"""The folder of a run on this machine: its own, or a copy of one in a store.

A run writes the copy of its folder at a URL (`gs://`, `s3://`, ...) as any other
folder. A thread uploads what has changed, in such an order that what the store has can
always be resumed: arrays before their manifest, and old checkpoints are removed last.
"""

import contextlib
import json
import logging
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

import jax

from clipin_jax import storage
from clipin_jax.errors import ClipinError
from clipin_jax.runs import checkpoint_checksums as checksums
from clipin_jax.runs import owner

UPLOAD_SECONDS = 15.0  # between two uploads of a run that trains
CHECKPOINTS = "checkpoints"  # the folder of checkpoints in a run folder
_log = logging.getLogger(__name__)


class RunCopy(Protocol):
    """A run folder that this machine can read."""

    @property
    def name(self) -> str:
        """The path or URL of the run, for messages."""
        ...

    @property
    def folder(self) -> Path:
        """The folder on this machine."""
        ...

    def fetch(self, step: int | None = None) -> None:
        """Gets a checkpoint, by default the newest undamaged one, onto this machine."""

    def named(self) -> contextlib.AbstractContextManager[None]:
        """Lets errors inside name the run rather than its copy."""
        ...


@contextlib.contextmanager
def working_copy(workdir: str | Path) -> Iterator[RunCopy]:
    """Yields a run folder to train in; at the end, a store has all that it holds.

    One process owns a folder in a store meanwhile; another one is refused.

    Args:
      workdir: the run's folder, which need not exist; a path or URL.

    Raises:
      ClipinError: another process owns it, or the store cannot be read or written, or
        several processes would write it.
    """
    path = storage.full_path(workdir)
    if not storage.is_remote(path):
        yield _LocalRun(Path(path))
        return
    if jax.process_count() > 1:
        raise ClipinError(
            f"{path} is a URL, but {jax.process_count()} processes write one run "
            "folder: name a folder on a disk that all of them share, such as the mount "
            "of the bucket"
        )
    with owner.own_folder(path):
        copy = _StoredRun(path)
        copy.download(for_writing=True)
        with copy.named(), copy.uploading():
            yield copy


def holds_run(folder: Path) -> bool:
    """Whether a folder is a run's; a model's folder may have a config.json too."""
    if (folder / CHECKPOINTS).is_dir():
        return True
    try:
        return "objectives" in json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return False


def open_copy(workdir: str | Path) -> RunCopy:
    """Returns a run folder to read; of one in a store, a copy without its checkpoints.

    Raises:
      ClipinError: the store cannot be read.
    """
    path = storage.full_path(workdir)
    if not storage.is_remote(path):
        return _LocalRun(Path(path))
    copy = _StoredRun(path)
    copy.download()
    return copy


class _LocalRun:
    """A run folder of this machine."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.name = str(folder)

    def fetch(self, step: int | None = None) -> None:
        """Does nothing: every checkpoint is here."""

    def named(self) -> contextlib.AbstractContextManager[None]:
        """Changes nothing: errors name the folder."""
        return contextlib.nullcontext()


class _StoredRun:
    """A copy of a run folder in a store; removed with this object."""

    def __init__(self, url: str):
        self.name = url.rstrip("/")
        parent = tempfile.mkdtemp(prefix="clipin_jax_")
        self._removal = weakref.finalize(self, shutil.rmtree, parent, True)
        self.folder = Path(parent) / PurePosixPath(self.name).name
        self.folder.mkdir()
        self._store = storage.Store(self.name)
        # Of each file that both sides have, the size and time of the one here.
        self._known: dict[str, tuple[int, int]] = {}
        self._uploads = threading.Lock()

    def download(self, for_writing: bool = False) -> None:
        """Copies all but the arrays of checkpoints.

        Args:
          for_writing: also copy the newest undamaged checkpoint, and remove those whose
            upload was not completed.

        Raises:
          ClipinError: the folder holds other files, or cannot be read.
        """
        names = {
            name
            for name in self._store.names()
            if name.split("/")[0] not in owner.BESIDE
        }
        if names and "config.json" not in names:
            raise ClipinError(
                f"{self.name} holds files but no config.json, so it is no run: choose "
                "another folder"
            )
        complete = _complete_steps(names)
        incomplete = {step for step in map(_step, names) if step} - complete
        with self._writing_here():
            self._get(
                name
                for name in names
                if _step(name) not in incomplete and not _is_array(name)
            )
        if for_writing:
            for step in incomplete:
                self._store.remove_folder(_step_folder(step))
            self.fetch()

    def fetch(self, step: int | None = None) -> None:
        """Copies a checkpoint, by default the newest undamaged one."""
        names = self._store.names()
        newest_first = sorted(map(int, _complete_steps(names)), reverse=True)
        for each in newest_first if step is None else [step]:
            folder = _step_folder(str(each))
            with self._writing_here():
                self._get(name for name in names if name.startswith(f"{folder}/"))
            with contextlib.suppress(checksums.DamageError):
                checksums.read_verified_facts(self.folder / folder)
                return

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Lets errors inside name the URL."""
        try:
            yield
        except ClipinError as error:
            text = str(error).replace(str(self.folder), self.name)
            raise ClipinError(text) from error

    @contextlib.contextmanager
    def uploading(self) -> Iterator[None]:
        """Uploads changes meanwhile, and what is left at the end."""
        stop = threading.Event()
        thread = threading.Thread(
            target=self._keep_uploading, args=(stop,), daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self._upload_or_keep()

    def _keep_uploading(self, stop: threading.Event) -> None:
        failed = False
        while not stop.wait(UPLOAD_SECONDS):
            try:
                self._upload()
                failed = False
            except (OSError, ClipinError) as error:
                if not failed:  # once for each time that the store is away
                    _log.warning("%s; it is tried again", error)
                failed = True

    def _upload_or_keep(self) -> None:
        """Uploads what is left; if that fails, keeps the copy and says where."""
        try:
            self._upload()
        except (OSError, ClipinError) as error:
            self._removal.detach()
            raise ClipinError(
                f"{self.name} lacks what was written last ({error}); it is kept in "
                f"{self.folder.parent}, from where you can copy it"
            ) from error

    def _upload(self) -> None:
        """Makes the store hold what the copy holds. Raises ClipinError or OSError."""
        with self._uploads:
            here = dict(self._files())
            gone = self._known.keys() - here.keys()
            for name in (name for name in gone if not _step(name)):
                self._store.remove(name)
            changed = {k: v for k, v in here.items() if self._known.get(k) != v}
            for stage in range(_STAGES):
                names = [name for name in changed if _stage(name) == stage]
                self._put(names)
                self._known |= {name: changed[name] for name in names}
            for step in {_step(name) for name in gone} - {""}:
                if not (self.folder / _step_folder(step)).exists():
                    self._store.remove_folder(_step_folder(step))
            self._known = {k: v for k, v in self._known.items() if k in here}

    def _put(self, names: Iterable[str]) -> None:
        paths = {name: self.folder / name for name in names}
        arrays = {name: path for name, path in paths.items() if _step(name)}
        # Other files may grow meanwhile: they are read at once.
        others = paths.keys() - arrays.keys()
        self._store.write({name: paths[name].read_bytes() for name in others})
        try:
            self._store.put(arrays)
        except ClipinError:
            left = {name: path for name, path in arrays.items() if path.exists()}
            if left == arrays:
                raise
            self._store.put(left)  # a checkpoint was removed meanwhile

    def _files(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """Yields the complete files of the copy, with size and time."""
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder).as_posix()
            if name.endswith((owner.FILE, ".tmp")) or not _is_final(name):
                continue
            with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                if path.is_file():
                    yield name, _signature(path)

    def _get(self, names: Iterable[str]) -> None:
        names = sorted(names)
        self._store.get({name: self.folder / name for name in names})
        self._known |= {name: _signature(self.folder / name) for name in names}

    @contextlib.contextmanager
    def _writing_here(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ClipinError(
                f"{self.name} cannot be copied to {self.folder.parent}: "
                f"{error.strerror or error}; TMPDIR sets another place"
            ) from error


# Each stage is uploaded when the one before it is complete.
_STAGES = 4


def _stage(name: str) -> int:
    if name == "config.json":  # without it the rest is no run
        return 0
    if name == "DONE":
        return 3
    return 2 if name.endswith(f"/{checksums.NAME}") else 1


def _signature(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _step_folder(step: str) -> str:
    return f"{CHECKPOINTS}/{step}"


def _step(name: str) -> str:
    """Returns the step of a file of a checkpoint, "" of another file."""
    folder, _, rest = name.partition("/")
    return rest.partition("/")[0] if folder == CHECKPOINTS and "/" in rest else ""


def _is_final(name: str) -> bool:
    """Whether a file is outside of checkpoints, or in one that is complete."""
    return not name.startswith(f"{CHECKPOINTS}/") or _step(name).isdigit()


def _is_array(name: str) -> bool:
    """Whether a file is in a folder of a checkpoint, as the arrays are."""
    return bool(_step(name)) and name.count("/") > 2


def _complete_steps(names: Iterable[str]) -> set[str]:
    manifest = f"/{checksums.NAME}"
    return {_step(n) for n in names if n.endswith(manifest) and _step(n).isdigit()}
