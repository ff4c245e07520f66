"""Where the metrics of a run are written: JSON lines always, others by `config.log`.

An entry `log.NAME` is True, False, or a dict of arguments with an optional `type`: a
short name of `METRIC_WRITERS` or "package.module:Class", by default the entry's name.
The class is called as `Class(workdir, **arguments)`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import jax

from clipin_jax import registry
from clipin_jax.errors import ClipinError, explained
from clipin_jax.runs.metrics import JsonLines


class MetricWriter(Protocol):
    """Writes the metrics of one run. Only process 0 makes one."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the metrics of a step; a value may be NaN or infinite."""

    def truncate_after(self, step: int) -> None:
        """Removes what an earlier start wrote after `step`: it is measured again.

        Called once, before the first `write`.
        """

    def close(self) -> None:
        """Flushes; nothing is written afterwards."""


class TensorBoard:
    """Writes event files into the folder `tensorboard` of a run."""

    def __init__(self, workdir: Path, flush_secs: float = 30):
        """Opens no file yet: the first `write` does.

        Args:
          workdir: the run's folder.
          flush_secs: seconds between two flushes to disk.
        """
        self._folder = workdir / "tensorboard"
        self._flush_secs = flush_secs
        self._events: Any = None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds scalars, one a metric."""
        self._events = self._events or self._open()
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def truncate_after(self, step: int) -> None:
        """Tells TensorBoard to hide the events after `step`."""
        if self._folder.exists():
            self._events = self._open(purge_step=step + 1)

    def close(self) -> None:
        """Flushes."""
        if self._events is not None:
            self._events.close()

    def _open(self, purge_step: int | None = None) -> Any:
        from tensorboardX import SummaryWriter  # slow to import

        return SummaryWriter(
            str(self._folder), purge_step=purge_step, flush_secs=self._flush_secs
        )


METRIC_WRITERS = {"tensorboard": TensorBoard}
_MEMBERS = "write", "truncate_after", "close"


class MetricWriters:
    """All writers of a run as one; processes other than the first write nothing."""

    def __init__(self, workdir: str | Path, log: Mapping[str, Any]):
        """Opens the writers of a run.

        Args:
          workdir: the run's folder.
          log: the entries of `config.log`.

        Raises:
          ClipinError: an entry is wrong, or its writer cannot be opened.
        """
        classes = _writer_classes(log)
        self._writers: dict[str, MetricWriter] = {}
        if jax.process_index():
            return
        self._writers["jsonl"] = JsonLines(Path(workdir))
        for name, (cls, arguments) in classes.items():
            with explained(f"log.{name} could not be opened"):
                self._writers[name] = cls(Path(workdir), **arguments)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes the metrics of a step.

        Args:
          step: how many updates were made.
          values: scalars of any kind; converted to float here, which waits for them.

        Raises:
          ClipinError: a writer failed.
        """
        if not self._writers:
            return
        numbers = {name: float(value) for name, value in values.items()}
        for name, writer in self._writers.items():
            with explained(f"log.{name} could not write step {step}"):
                writer.write(step, numbers)

    def truncate_after(self, step: int) -> None:
        """Removes what an earlier start wrote after `step`."""
        for name, writer in self._writers.items():
            with explained(f"log.{name} could not be cut after step {step}"):
                writer.truncate_after(step)

    def close(self) -> None:
        """Closes all writers."""
        for name, writer in self._writers.items():
            with explained(f"log.{name} could not be closed"):
                writer.close()


def check_metric_writers(log: Mapping[str, Any]) -> None:
    """Checks the entries of `config.log` without opening a writer.

    Raises:
      ClipinError: an entry is of another form, or names no class, or has an argument
        that the class lacks.
    """
    _writer_classes(log)


def _writer_classes(log: Mapping[str, Any]) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Returns name -> class and arguments, of the writers that are switched on."""
    classes = {}
    for name, entry in log.items():
        where = f"log.{name}"
        if entry is False or entry is None:
            continue
        if entry is not True and not isinstance(entry, Mapping):
            raise ClipinError(
                f"{where} is {entry!r}: use True, False, or a dict of arguments with "
                "'type'"
            )
        arguments = {} if entry is True else dict(entry)
        typed = "type" in arguments
        cls = registry.find(
            METRIC_WRITERS,
            arguments.pop("type", name),
            f"{where}.type" if typed else where,
        )
        registry.check_members(
            cls, _MEMBERS, where, "clipin_jax/runs/metric_writers.py"
        )
        registry.check_arguments(cls, arguments, where, given=1)
        classes[name] = cls, arguments
    return classes
