"""All loggers of a run as one: JSON lines always, others by `config.log`."""

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from clipin_jax import storage
from clipin_jax.config import to_json, with_defaults
from clipin_jax.errors import describe_error, explained
from clipin_jax.runs.loggers.base import Logger, RunFacts
from clipin_jax.runs.loggers.json_lines import JsonLines
from clipin_jax.runs.loggers.table import make_loggers

IDS = "loggers.json"  # the file of a run with the ids by which loggers go on
REST_SECONDS = 60.0  # after a failure, in which a logger is not asked again
_log = logging.getLogger(__name__)


def run_facts(config: ConfigDict, workdir: Path, run_name: str, step: int) -> RunFacts:
    """Returns what loggers may know about a run.

    Args:
      config: of the run.
      workdir: its folder on this machine.
      run_name: the path or URL of its folder.
      step: from which it goes on.
    """
    name = run_name.rstrip("/").rpartition("/")[2]
    return RunFacts(workdir, name, json.loads(to_json(with_defaults(config))), step)


class RunLoggers:
    """All loggers of a run; processes other than the first log nothing.

    The run stops if JSON lines cannot be written. Any other logger that fails costs a
    warning: its service may be away for a while. It gets the metrics of later steps.
    """

    def __init__(
        self, log: Mapping[str, Any], clock: Callable[[], float] = time.monotonic
    ):
        """Makes the loggers, opens nothing.

        Args:
          log: the entries of `config.log`.
          clock: returns seconds.

        Raises:
          ClipinError: an entry is wrong, or its package is not installed.
        """
        self._others, self._clock = make_loggers(log), clock
        self._lines: JsonLines | None = None
        self._rests_until: dict[str, float] = {}
        self._ids: dict[str, str] = {}

    def init(self, run: RunFacts) -> None:
        """Opens the loggers; each goes on with the log of an earlier start.

        Raises:
          ClipinError: a logger cannot be opened at the first start of a run, or the
            ids of the loggers cannot be written.
        """
        if jax.process_index():
            return
        self._lines = JsonLines()
        self._lines.init(run, "")
        path = run.workdir / IDS
        known = json.loads(path.read_text()) if path.is_file() else {}
        for name, logger in self._others.items():
            where = f"log.{name} could not be opened"
            if name in known:  # a service that is away must not stop a restart
                opening = self._surviving(name, where)
            else:
                opening = explained(where)
            with opening:
                self._ids[name] = logger.init(run, known.get(name, ""))
        self._write_ids(path, known)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Logs the metrics of a step.

        Args:
          step: how many updates were made.
          values: scalars of any kind; converted to float here, which waits for them.

        Raises:
          ClipinError: metrics.jsonl cannot be written.
        """
        if self._lines is None:
            return
        numbers = {name: float(value) for name, value in values.items()}
        self._lines.log(step, numbers)
        for name, logger in self._open():
            if self._clock() >= self._rests_until.get(name, 0):
                with self._surviving(name, f"log.{name} could not log step {step}"):
                    logger.log(step, numbers)

    def close(self) -> None:
        """Finishes all loggers."""
        for name, logger in self._open():
            with self._surviving(name, f"log.{name} could not be finished"):
                logger.finish()
        self._ids = {}

    def _open(self) -> Iterator[tuple[str, Logger]]:
        yield from ((name, self._others[name]) for name in self._ids)

    @contextlib.contextmanager
    def _surviving(self, name: str, what: str) -> Iterator[None]:
        """Turns an error of a logger into a warning, the first time."""
        try:
            yield
        except Exception as error:  # each service has errors of its own
            if name not in self._rests_until:
                _log.warning(
                    "%s: %s; the run goes on, and metrics.jsonl has all metrics",
                    what,
                    describe_error(error),
                )
            self._rests_until[name] = self._clock() + REST_SECONDS

    def _write_ids(self, path: Path, known: Mapping[str, str]) -> None:
        ids = {**known, **{name: key for name, key in self._ids.items() if key}}
        if ids != known:
            with explained(f"cannot write {path}"):
                storage.write(str(path), json.dumps(ids, indent=2).encode())
