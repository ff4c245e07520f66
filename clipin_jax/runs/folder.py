"""The folder of a run: its config, its environment, and whether it is done."""

import importlib.metadata
import json
import platform
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from clipin_jax import storage
from clipin_jax.config import (
    difference,
    followers,
    from_json,
    to_json,
    with_defaults,
)
from clipin_jax.errors import ClipinError
from clipin_jax.runs import owner

# Keys that may change when a run is resumed: they alter neither the model nor the data.
# (The data may move: its fingerprint is compared, not its folder.)
FREE_KEYS = (
    "checkpoint.", "data.allow_change", "data.max_bad_fraction",
    "data.prefetch_batches", "data.processes", "data.source.files",
    "data.source.folder", "data.source.index", "data.threads", "evals.",
    "health_every_steps", "log.", "log_every_steps", "max_nonfinite_steps", "mesh.",
    "micro_batches", "sharding.", "compiler_options.",
)  # fmt: skip
DONE = "DONE"  # the file of a finished run
SIZE = "size.json"  # the file with the numbers of parameters
SOURCES = "sources.json"  # the file of a run that is the mean of checkpoints
_SHOWN = 5  # differing keys in a message
# What a run may have written before its first checkpoint. Metrics are cut at step 0.
_BEFORE_CHECKPOINTS = ("bad_records.jsonl", "nonfinite_batches.json")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def open_folder(
    config: ConfigDict,
    workdir: Path,
    run_name: str = "",
    size: Mapping[str, int] | None = None,
) -> None:
    """Creates the run's folder, or checks that an existing one has the same config.

    A run that has no checkpoint may begin anew with another config.

    Its config.json also lists arguments at their defaults, so that the run does not
    change if a later version has other defaults.

    Args:
      config: of the run.
      workdir: its folder.
      run_name: the path or URL by which the user knows it; `workdir` if "".
      size: numbers of parameters, written for pages; None where they are unknown.

    Raises:
      ClipinError: the folder holds a run of another config, weights alone, other files,
        or cannot be written.
    """
    saved = workdir / "config.json"
    if (workdir / SOURCES).is_file():
        raise ClipinError(
            f"{workdir} holds weights without the state of an optimizer, so training "
            "cannot go on from them: choose another --workdir"
        )
    if saved.is_file() and _has_checkpoint(workdir):
        _check_same(config, load_folder(workdir), workdir)
    elif saved.is_file():
        load_folder(workdir)  # names a damaged file rather than replace it
        if not jax.process_index():
            for name in _BEFORE_CHECKPOINTS:  # and those of other processes
                for path in workdir.glob(f"*{name}"):
                    path.unlink(missing_ok=True)
    elif workdir.is_dir() and {path.name for path in workdir.iterdir()} - owner.BESIDE:
        raise ClipinError(
            f"{workdir} holds files but no config.json, so it is no run to resume: "
            "choose another --workdir, or empty it"
        )
    if jax.process_index():
        return
    if (workdir / DONE).is_file():
        (workdir / DONE).unlink()
        notice = _longer_notice(config, load_folder(workdir).total_steps)
        print(f"clipin: {run_name or workdir} {notice}", file=sys.stderr)
    content = to_json(with_defaults(config))
    write_file(saved, content)
    write_file(workdir / "config.yaml", str(ConfigDict(json.loads(content))))
    write_file(workdir / "environment.json", json.dumps(environment(), indent=2))
    if size:
        write_file(workdir / SIZE, json.dumps(size) + "\n")


def _has_checkpoint(workdir: Path) -> bool:
    return any(path.name.isdigit() for path in workdir.glob("checkpoints/*"))


def is_finished(config: ConfigDict, workdir: Path, *, may_go_on: bool = False) -> bool:
    """Returns whether a folder holds the finished run of a config.

    Args:
      config: of the run.
      workdir: its folder.
      may_go_on: return False where the config is the same but for more steps; such a
        run goes on.

    Raises:
      ClipinError: the finished run is of another config.
    """
    if not (workdir / DONE).is_file():
        return False
    changed = _check_same(config, load_folder(workdir), workdir)
    if changed and not may_go_on:
        raise _other_config(changed, workdir)
    return not changed


def process_file(name: str) -> str:
    """Returns the name of a file that every process writes."""
    process = jax.process_index()
    return f"process_{process}_{name}" if process else name


def write_file(path: Path, content: str) -> None:
    """Writes a file atomically: if the disk is full, the old file stays intact.

    Raises:
      ClipinError: it cannot be written.
    """
    try:
        storage.write(str(path), content.encode())
    except OSError as error:
        raise ClipinError(
            f"cannot write {path}: {error.strerror or error}; make room, or choose "
            "another --workdir"
        ) from error


def load_folder(workdir: Path) -> ConfigDict:
    """Returns the config of the run in a folder.

    Raises:
      ClipinError: the folder holds no run, or its config is damaged.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise ClipinError(f"{workdir} is no run folder: it has no config.json")
    try:
        return from_json(path.read_text()).lock()
    except ValueError as error:
        raise ClipinError(f"{path} is damaged: {error}") from error


def _check_same(
    config: ConfigDict, saved: ConfigDict, workdir: Path
) -> dict[str, tuple[Any, Any]]:
    """Returns what makes the run longer; raises if anything else has changed."""
    changed = {
        key: values
        for key, values in difference(
            with_defaults(saved), with_defaults(config)
        ).items()
        if not f"{key}.".startswith(FREE_KEYS)  # a whole group may be empty
    }
    if changed and not _is_longer(config, saved, changed, workdir):
        raise _other_config(changed, workdir)
    return changed


def _other_config(changed: dict[str, tuple[Any, Any]], workdir: Path) -> ClipinError:
    shown = list(changed.items())[:_SHOWN]
    listed = "; ".join(f"{k}: {a!r} there, {b!r} now" for k, (a, b) in shown)
    more = f"; and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    return ClipinError(
        f"{workdir} holds a run of another config ({listed}{more}): choose another "
        "--workdir to start anew, or repeat the command that made it to resume"
    )


def _is_longer(
    config: ConfigDict, saved: ConfigDict, changed: Iterable[str], workdir: Path
) -> bool:
    """Whether a run that took its last step would only take more of them."""
    length = {"total_steps", *followers(config, "total_steps")}
    if not length.issuperset(changed) or config.total_steps <= saved.total_steps:
        return False
    return (workdir / "checkpoints" / str(saved.total_steps)).is_dir()


def _longer_notice(config: ConfigDict, last_step: int) -> str:
    following = ", ".join(followers(config, "total_steps")) or "no other key"
    return (
        f"goes on from step {last_step} to {config.total_steps}; {following} follows "
        "total_steps, so schedules are from here on those of the longer run"
    )


def environment() -> dict[str, Any]:
    """Returns versions and devices, on which results may depend."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    devices = jax.devices()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "processes": jax.process_count(),
        **versions,
    }
