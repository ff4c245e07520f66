"""Names in configs become classes: a short name of a table, or "package.module:Name".

Each table is a plain dict in the `__init__.py` of its room, such as
`objectives.OBJECTIVES`. A name with a colon is imported, so that other packages add
classes without a change here. The name stays in the config as it was given.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from clipin_jax.errors import ClipinError, did_you_mean

T = TypeVar("T")


def find(table: Mapping[str, T], name: str, where: str) -> T:
    """Returns the entry of a table, or imports the one that "module:Name" names.

    Args:
      table: short name to class.
      name: as a config has it.
      where: the config key, for messages.

    Raises:
      ClipinError: the name is neither, with the nearest one; or its module cannot be
        imported or lacks the class.
    """
    if isinstance(name, str) and ":" in name:
        return _imported(name, where)
    if not isinstance(name, str) or name not in table:
        raise ClipinError(
            f"{where} is {name!r}: {did_you_mean(str(name), table)}, or a class of "
            "another package as 'package.module:Class'"
        )
    return table[name]


def check_arguments(
    target: Callable[..., Any], arguments: Mapping[str, Any], where: str, given: int = 0
) -> None:
    """Checks the names of keyword arguments against a signature.

    Args:
      target: the class or function that will be called.
      arguments: what a config gives it.
      where: the config key of the arguments, for messages.
      given: how many leading parameters the caller fills itself.

    Raises:
      ClipinError: an argument that the target lacks, with the nearest name, or a
        required one that is missing.
    """
    parameters = list(inspect.signature(target).parameters.values())[given:]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    required = {p.name: p.default is p.empty for p in parameters}
    for key in arguments:
        if key not in required:
            raise ClipinError(
                f"{where}.{key} does not exist: {did_you_mean(key, required)}"
            )
    for key, is_required in required.items():
        if is_required and key not in arguments:
            raise ClipinError(f"{where}.{key} is missing: it has no default")


@functools.cache
def _imported(name: str, where: str) -> Any:
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the imported file raises
        raise ClipinError(
            f"{where} is {name!r}, but importing {module_name!r} raised "
            f"{type(error).__name__}: {error}; install the package, or put its folder "
            "on PYTHONPATH"
        ) from error
    if not hasattr(module, attribute):
        public = [key for key in vars(module) if not key.startswith("_")]
        raise ClipinError(
            f"{where} is {name!r}, but {module_name!r} has no {attribute!r}: "
            f"{did_you_mean(attribute, public)}"
        )
    return getattr(module, attribute)
