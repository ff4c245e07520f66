"""Settings of a site: a TOML file with a table for each engine, and changes of them."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clipin_jax.errors import ClipinError, check_choice, did_you_mean, shorten
from clipin_jax.launchers.engine import Engine
from clipin_jax.launchers.engines import ENGINES

FILE = "site.toml"
_SWITCHES = {"true": True, "false": False}
_MULTILINE = ("setup",)  # settings that are pieces of a script


def make_engine(
    name: str, site: str | None = None, changes: Sequence[str] = ()
) -> Engine:
    """Returns an engine with the settings of a site.

    Args:
      name: of the engine.
      site: a TOML file; by default site.toml in this folder, else in
        ~/.config/clipin_jax, if there is one.
      changes: "KEY=VALUE", which come after the file.

    Raises:
      ClipinError: no such engine or file, or a key or value that is wrong.
    """
    check_choice("--on", name, ENGINES)
    path = _site_file(site)
    settings = _read_table(path, name) if path else {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise ClipinError(f"cannot read {change!r}: give KEY=VALUE, see {_help()}")
        settings[key] = _parse(name, key, value)
    return engine_of(name, settings)


def engine_of(name: str, settings: Mapping[str, Any]) -> Engine:
    """Returns an engine with checked settings. Raises ClipinError."""
    for key, value in settings.items():
        _check_value(name, key, value)
    return ENGINES[name](**settings)


def changed_settings(engine: Engine) -> dict[str, Any]:
    """Returns the settings that are not the defaults."""
    defaults = dataclasses.asdict(type(engine)())  # type: ignore[call-overload]
    settings = dataclasses.asdict(engine)  # type: ignore[call-overload]
    return {k: v for k, v in settings.items() if v != defaults[k]}


def _help() -> str:
    return "launch/site.toml for the keys"


def _site_file(site: str | None) -> Path | None:
    if site is not None:
        return Path(site).expanduser()
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    places = [Path(FILE), Path(home).expanduser() / "clipin_jax" / FILE]
    return next((path for path in places if path.is_file()), None)


def _read_table(path: Path, engine: str) -> dict[str, Any]:
    try:
        tables = tomllib.loads(path.read_text())
    except OSError as error:
        raise ClipinError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # also text that is not UTF-8
        raise ClipinError(f"{path} is no TOML file: {error}") from error
    for name, table in tables.items():
        if name not in ENGINES or not isinstance(table, dict):
            raise ClipinError(
                f"{path}: {name} is no table of an engine: "
                f"{did_you_mean(name, ENGINES)}"
            )
    try:
        return dict(engine_keys(tables.get(engine, {}), engine))
    except ClipinError as error:
        raise ClipinError(f"{path}: {error}") from error


def engine_keys(table: Mapping[str, Any], engine: str) -> Mapping[str, Any]:
    """Returns the table of an engine. Raises ClipinError if it has a wrong entry."""
    for key, value in table.items():
        _check_value(engine, key, value)
    return table


def _default(engine: str, key: str) -> Any:
    fields = {f.name: f.default for f in dataclasses.fields(ENGINES[engine])}  # type: ignore[arg-type]
    if key not in fields:
        raise ClipinError(
            f"{engine} has no setting {shorten(key)!r}: {did_you_mean(key, fields)}"
        )
    return fields[key]


def _parse(engine: str, key: str, text: str) -> Any:
    kind = type(_default(engine, key))
    if kind is bool:
        check_choice(f"{engine}.{key}", text, _SWITCHES)
        return _SWITCHES[text]
    if kind is str:
        return text
    try:
        return kind(text)
    except ValueError:
        raise ClipinError(
            f"{engine}.{key} is {shorten(text)!r}: give a number"
        ) from None


def _check_value(engine: str, key: str, value: Any) -> None:
    default = _default(engine, key)
    if type(value) is not type(default):
        raise ClipinError(
            f"{engine}.{key} is {shorten(repr(value))}: give a value like {default!r}"
        )
    if isinstance(value, int) and value < 0:
        raise ClipinError(f"{engine}.{key} is {value}: give a number of at least 0")
    if isinstance(value, str) and "\n" in value and key not in _MULTILINE:
        raise ClipinError(f"{engine}.{key} has several lines: give one")
