"""Where each value of a config comes from: its page, a recipe, a default, an override.

Recipes are functions that pages call. While a config is explained, each call of one is
recorded with the values that it gave and the page did not. A value that stands there in
the end, under the same key, is the recipe's. All others of the page's function are the
page's.
"""

import contextlib
import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple, ParamSpec, TypeVar

from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference, RequiredValueError

P = ParamSpec("P")
R = TypeVar("R")

UNSET = object()  # in place of a value that the user has to give


class Given(NamedTuple):
    """What a call of a recipe gave.

    Attributes:
      recipe: the name of the function.
      place: regular expression of the group that the keys belong to.
      values: key in that group to value.
    """

    recipe: str
    place: str
    values: dict[str, Any]


_calls: ContextVar[list[Given] | None] = ContextVar("calls", default=None)
_nested: ContextVar[bool] = ContextVar("nested", default=False)


@contextlib.contextmanager
def recorded_recipes() -> Iterator[list[Given]]:
    """Records the calls of recipes inside."""
    calls: list[Given] = []
    token = _calls.set(calls)
    try:
        yield calls
    finally:
        _calls.reset(token)


def recipe(place: str, name: str = "") -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Marks a function that returns a group of a config.

    Args:
      place: regular expression of the groups that its result goes to.
      name: for users; the function's if empty.
    """

    def mark(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            with _recorded(name or function.__name__, place) as record:
                result = function(*args, **kwargs)
                record(flatten(result), _bound(function, args, kwargs))
            return result

        return call

    return mark


def changes_config(function: Callable[P, R]) -> Callable[P, R]:
    """Marks a function that changes the config which is its first argument."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with _recorded(function.__name__, "") as record:
            before = flatten(args[0])
            result = function(*args, **kwargs)
            changed = {
                key: value
                for key, value in flatten(args[0]).items()
                if key not in before or not _equal(value, before[key])
            }
            record(changed, _bound(function, args, kwargs))
        return result

    return call


Record = Callable[[dict[str, Any], dict[str, Any]], None]


@contextlib.contextmanager
def _recorded(recipe: str, place: str) -> Iterator[Record]:
    """Yields a function that takes the values of a call and its arguments.

    A call within this one comes after it, and its arguments are the recipe's.
    """
    values: dict[str, Any] = {}
    if (calls := _calls.get()) is not None:
        calls.append(Given(recipe, place, values))
    nested = _nested.get()
    token = _nested.set(True)
    try:
        yield lambda given, passed: values.update(
            given if nested else _not_passed(given, passed)
        )
    finally:
        _nested.reset(token)


def origin(key: str, value: Any, calls: list[Given]) -> str:
    """Returns the name of the last recipe that gave a value for a key; "" if none."""
    for given in reversed(calls):
        for name, recipe_value in given.values.items():
            pattern = re.escape(name)
            if given.place:
                pattern = rf"(?:{given.place})\.{pattern}"
            if re.fullmatch(pattern, key) and _equal(value, recipe_value):
                return given.recipe
    return ""


def flatten(group: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted key to value, references followed, `UNSET` where a value is required."""
    if isinstance(group, ConfigDict):
        items = group.items(preserve_field_references=True)
    else:
        items = group.items()
    flat = {}
    for name, value in items:
        value = _followed(value)
        if isinstance(value, Mapping | ConfigDict):
            inner = flatten(value, f"{prefix}{name}.")
            flat |= inner or {f"{prefix}{name}": {}}
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _followed(value: Any) -> Any:
    if not isinstance(value, FieldReference):
        return value
    try:
        return value.get()
    except RequiredValueError:
        return UNSET


def _not_passed(values: dict[str, Any], passed: dict[str, Any]) -> dict[str, Any]:
    """Leaves out the values that the page passed as arguments of the same name."""
    makers = {f".{name}." for name, value in passed.items() if callable(value)}
    ends = tuple(f".{name}" for name in flatten(passed))
    return {
        key: value
        for key, value in values.items()
        if not f".{key}".endswith(ends) and not any(m in f".{key}." for m in makers)
    }


def _bound(function: Callable, args: Any, kwargs: Any) -> dict[str, Any]:
    """The arguments of a call by name."""
    signature = inspect.signature(function)
    bound = dict(signature.bind(*args, **kwargs).arguments)
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            bound |= bound.pop(parameter.name, {})
    return bound


def _equal(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and a == b)
