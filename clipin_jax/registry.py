"""Names in configs become classes: a short name of a table, or "package.module:Name".

Each table is a plain dict in the `__init__.py` of its room, such as
`objectives.OBJECTIVES`. A name with a colon is imported, so that other packages add
classes without a change here. The config keeps the name as it was given.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from types import ModuleType
from typing import Any, TypeVar

from clipin_jax.errors import (
    ClipinError,
    describe_error,
    did_you_mean,
    explained,
    shorten,
)

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
            f"{where} is {shorten(repr(name))}: {did_you_mean(str(name), table)}, or a "
            f"class of another package as {_FORM}"
        )
    return table[name]


def check_arguments(
    target: Callable[..., Any],
    arguments: Mapping[str, Any],
    where: str,
    given: int = 0,
    also: Iterable[str] = (),
    filled: Collection[str] = (),
) -> None:
    """Checks the names of keyword arguments against a signature.

    Args:
      target: the class or function that will be called.
      arguments: what a config gives it.
      where: the config key of the arguments, for messages.
      given: how many leading parameters the caller fills itself.
      also: keys that the caller reads itself, for the nearest name.
      filled: parameters that the caller fills itself by name.

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
        and parameter.name not in filled
    }
    for key in arguments:
        if key not in named and inspect.Parameter.VAR_KEYWORD not in kinds:
            raise ClipinError(
                f"{where}.{key} does not exist: {did_you_mean(key, [*named, *also])}"
            )
    for key, required in named.items():
        if required and key not in arguments:
            raise ClipinError(f"{where}.{key} is missing: it has no default")


def check_accepts(
    target: Callable[..., Any], names: Iterable[str], where: str, page: str
) -> None:
    """Checks that a class takes the arguments which its builder gives it.

    Args:
      target: the class or function that will be called.
      names: of the arguments.
      where: the config key of its name, for messages.
      page: the file that describes such a class.

    Raises:
      ClipinError: it does not take one of them.
    """
    parameters = inspect.signature(target).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    if refused := [name for name in names if name not in parameters]:
        raise ClipinError(
            f"{where}: {_name(target)} does not take {', '.join(refused)}, which it is "
            f"always given: see {page}"
        )


def check_members(thing: Any, names: Iterable[str], where: str, page: str) -> None:
    """Checks that a class or an object has the members of a protocol.

    Args:
      thing: the class, or an object of it.
      names: of methods and attributes.
      where: the config key of the class, for messages.
      page: the file that describes such a class.

    Raises:
      ClipinError: it does not have one of them.
    """
    if absent := [name for name in names if not hasattr(thing, name)]:
        cls = thing if hasattr(thing, "__name__") else type(thing)
        raise ClipinError(
            f"{where}: {_name(cls)} has no {', '.join(absent)}: see {page}"
        )


def construct(
    target: Callable[..., T], where: str, /, *given: Any, **arguments: Any
) -> T:
    """Calls a class or function that a config names.

    Args:
      target: the class or function.
      where: the config key of its arguments, for messages.
      given: leading arguments.
      arguments: of the config.

    Raises:
      ClipinError: whatever the call raises, in one line; an argument that it passes on
        and that is refused there, with the nearest name.
    """
    with explained(where):
        try:
            return target(*given, **arguments)
        except TypeError as error:
            refused = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            if refused is None or refused[1] not in arguments:
                raise
            known = did_you_mean(refused[1], _all_arguments(target))
            raise ClipinError(
                f"{where}.{refused[1]} does not exist: {known}"
            ) from error


def _all_arguments(target: Callable[..., Any]) -> set[str]:
    """Returns the arguments of a class that have names, and those of its bases."""
    bases = target.__mro__[1:] if isinstance(target, type) else ()
    initializers = [
        vars(base)["__init__"] for base in bases if "__init__" in vars(base)
    ]
    return {
        parameter.name
        for function in (target, *initializers)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    } - {"self"}


def _name(target: Any) -> str:
    return getattr(target, "__name__", str(target))


def _import(name: str, where: str) -> Any:
    module_name, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
        raise ClipinError(f"{where} is {shorten(repr(name))}: write it as {_FORM}")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever the imported file raises
        raise ClipinError(
            f"{where} is {name!r}, but {_reason(module_name, error)}"
        ) from error
    if not hasattr(module, attribute):
        raise ClipinError(
            f"{where} is {name!r}, but {module_name} has no {attribute!r}: "
            f"{did_you_mean(attribute, _public_names(module))}"
        )
    target = getattr(module, attribute)
    if not callable(target):
        raise ClipinError(
            f"{where} is {name!r}, which is of type {type(target).__name__}: name a "
            "class or a function"
        )
    return target


def _public_names(module: ModuleType) -> list[str]:
    """Returns what a module defines, or all that it offers if it defines nothing."""
    public = {k: v for k, v in vars(module).items() if not k.startswith("_")}
    defined = [
        key
        for key, value in public.items()
        if callable(value) and getattr(value, "__module__", "") == module.__name__
    ]
    return defined or list(public)


def _reason(module_name: str, error: BaseException) -> str:
    """Returns why a module could not be imported, and what to do."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing and f"{module_name}.".startswith(f"{missing}."):
        return (
            f"there is no module {missing}: install its package, or put the folder "
            "that holds it on PYTHONPATH"
        )
    return f"importing {module_name} raised {describe_error(error)}"
