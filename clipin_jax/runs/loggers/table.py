"""The loggers that a config can name, and the classes behind the entries of one."""

from collections.abc import Mapping
from typing import Any

from clipin_jax import registry
from clipin_jax.errors import ClipinError
from clipin_jax.runs.loggers.base import Logger
from clipin_jax.runs.loggers.comet import Comet
from clipin_jax.runs.loggers.mlflow import MLflow
from clipin_jax.runs.loggers.tensorboard import TensorBoard
from clipin_jax.runs.loggers.trackio import Trackio
from clipin_jax.runs.loggers.wandb import Wandb

LOGGERS = {
    "comet": Comet,
    "mlflow": MLflow,
    "tensorboard": TensorBoard,
    "trackio": Trackio,
    "wandb": Wandb,
}
_MEMBERS = "init", "log", "finish"


def make_loggers(log: Mapping[str, Any]) -> dict[str, Logger]:
    """Returns the loggers that are switched on, by the names of their entries.

    An entry `log.NAME` is True, False, or a dict of arguments with an optional `type`:
    a short name of `LOGGERS` or "package.module:Class", by default the entry's name.

    Args:
      log: the entries of `config.log`.

    Raises:
      ClipinError: an entry is of another form, or names no class, or has an argument
        that the class lacks, or its package is not installed.
    """
    loggers = {}
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
            LOGGERS,
            arguments.pop("type", name),
            f"{where}.type" if typed else where,
        )
        registry.check_members(cls, _MEMBERS, where, "clipin_jax/runs/loggers/base.py")
        registry.check_arguments(cls, arguments, where)
        loggers[name] = registry.construct(cls, where, **arguments)
    return loggers
