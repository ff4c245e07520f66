"""The record of a launch, in the folder of its run."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from clipin_jax import storage
from clipin_jax.errors import ClipinError, shorten_path
from clipin_jax.runs.owner import LAUNCH_FOLDER

FILE = f"{LAUNCH_FOLDER}/launch.json"


@dataclasses.dataclass(frozen=True)
class Launch:
    """A job that was submitted.

    Attributes:
      engine: its name.
      settings: that differ from the engine's defaults.
      name: of the job.
      command: of the job.
      workdir: of the run, as this machine names it.
      ids: the engine's names of the job and of its copies.
      files: rendered, which are beside the record; the first one was submitted.
      submitted: local time, ISO 8601.
    """

    engine: str
    settings: dict[str, Any]
    name: str
    command: tuple[str, ...]
    workdir: str
    ids: tuple[str, ...]
    files: tuple[str, ...]
    submitted: str

    def path(self, name: str) -> str:
        """Returns the path or URL of a file beside the record."""
        return launch_path(self.workdir, name)


def launch_path(workdir: str, name: str) -> str:
    """Returns the path or URL of a launch's file in the folder of a run."""
    return storage.join(workdir, f"{LAUNCH_FOLDER}/{name}")


def write_launch(launch: Launch) -> None:
    """Writes a record. Raises OSError."""
    text = json.dumps(dataclasses.asdict(launch), indent=2) + "\n"
    storage.write(storage.join(launch.workdir, FILE), text.encode())


def find_launch(workdir: str) -> Launch | None:
    """Returns the record of a run's folder, None if there is none.

    Raises:
      ClipinError: it cannot be read.
    """
    path = storage.join(workdir, FILE)
    try:
        fields = json.loads(storage.read(path))
        return Launch(**{k: _frozen(v) for k, v in fields.items()})
    except FileNotFoundError:
        return None
    except (OSError, TypeError, ValueError, AttributeError) as error:
        raise ClipinError(
            f"cannot read {shorten_path(path)}: {error}; remove it if the job has ended"
        ) from error


def read_launch(workdir: str) -> Launch:
    """Returns the record of a run's folder.

    Raises:
      ClipinError: the folder has none, or it cannot be read.
    """
    if launch := find_launch(workdir):
        return launch
    raise ClipinError(
        f"{shorten_path(workdir)} was not started by `clipin launch`: it has no {FILE}"
    )


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
