"""Names in configs become classes: a short name of a table, or "package.module:Name".

Each table is a plain dict in the `__init__.py` of its room, such as
`objectives.OBJECTIVES`. A name with a colon is imported, so that other packages add
classes without a change here. The config keeps the name as it was given.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from clipin_jax.errors import ClipinError, describe_error, did_you_mean

T = TypeVar("T")
_FORM = "'package.module:Class'"


def find(table: Mapping[str, T], name: str, where: str) -> T:
    """Returns the entry of a table, or imports the one that "module:Name" names.

    Args:
      table: short name to class or function.
      name: the name in a config.
      where: the config key of the name, for messages.

    Raises:
      ClipinError: the table lacks the name, with the nearest one; or the module cannot
        be imported, lacks the attribute, or has something there that is not callable.
    """
    if isinstance(name, str) and ":" in name:
        return _import(name, where)
    if not isinstance(name, str) or name not in table:
        raise ClipinError(
            f"{where} is {name!r}: {did_you_mean(str(name), table)}, or a class of "
            f"another package as {_FORM}"
        )
    return table[name]


def check_arguments(
    target: Callable[..., Any],
    arguments: Mapping[str, Any],
    where: str,
    given: int = 0,
    also: Iterable[str] = (),
) -> None:
    """Checks the names of keyword arguments against a signature.

    Args:
      target: the class or function that will be called.
      arguments: what a config gives it.
      where: the config key of the arguments, for messages.
      given: how many leading parameters the caller fills itself.
      also: keys that the caller reads itself, for the nearest name.

    Raises:
      ClipinError: an argument that the target lacks, with the nearest name, or a
        required one that is missing.
    """
    parameters = list(inspect.signature(target).parameters.values())[given:]
    kinds = {parameter.kind for parameter in parameters}
    named = {
        parameter.name: parameter.default is parameter.empty  # whether it is required
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    for key in arguments:
        if key not in named and inspect.Parameter.VAR_KEYWORD not in kinds:
            raise ClipinError(
                f"{where}.{key} does not exist: {did_you_mean(key, [*named, *also])}"
            )
    for key, required in named.items():
        if required and key not in arguments:
            raise ClipinError(f"{where}.{key} is missing: it has no default")


def _import(name: str, where: str) -> Any:
    module_name, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
        raise ClipinError(f"{where} is {name!r}: write it as {_FORM}")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the imported file raises
        raise ClipinError(
            f"{where} is {name!r}, but {_reason(module_name, error)}"
        ) from error
    if not hasattr(module, attribute):
        public = [key for key in vars(module) if not key.startswith("_")]
        raise ClipinError(
            f"{where} is {name!r}, but {module_name} has no {attribute!r}: "
            f"{did_you_mean(attribute, public)}"
        )
    target = getattr(module, attribute)
    if not callable(target):
        raise ClipinError(
            f"{where} is {name!r}, which is of type {type(target).__name__}: name a "
            "class or a function"
        )
    return target


def _reason(module_name: str, error: Exception) -> str:
    """Returns why a module could not be imported, and what to do."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing and f"{module_name}.".startswith(f"{missing}."):
        return (
            f"there is no module {missing}: install its package, or put the folder "
            "that holds it on PYTHONPATH"
        )
    return f"importing {module_name} raised {describe_error(error)}"
