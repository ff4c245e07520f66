"""What a logger is."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from clipin_jax.errors import ClipinError


class RunFacts(NamedTuple):
    """What a logger may want to know about a run.

    Attributes:
      workdir: the run's folder on this machine.
      name: the name of that folder.
      config: of the run, as JSON can write it.
      step: the step from which this start goes on. What an earlier start logged after
        it is measured again, with equal values.
    """

    workdir: Path
    name: str
    config: Mapping[str, Any]
    step: int


class Logger(Protocol):
    """Logs the metrics of one run, in process 0 alone.

    It is made as `Class(**arguments)` of the config, before the run has a folder. A
    wrong argument or a missing package raises here; nothing is opened yet.
    """

    def init(self, run: RunFacts, run_id: str) -> str:
        """Opens the log of a run.

        Args:
          run: which run.
          run_id: what an earlier start returned, "" at the first one.

        Returns:
          The id by which the next start finds the same log; "" if it needs none.
        """
        ...

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Logs the metrics of a step; a value may be NaN or infinite."""

    def finish(self) -> None:
        """Sends or writes what is left; nothing is logged afterwards."""


def import_extra(module: str, extra: str) -> Any:
    """Returns a package of an extra.

    Args:
      module: its name.
      extra: the extra of `setup.py` that installs it.

    Raises:
      ClipinError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ClipinError(
            f"{module} cannot be imported ({error}): pip install 'clipin_jax[{extra}]'"
        ) from error
