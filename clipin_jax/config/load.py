"""Finds configs by name, reads their files and applies changes."""

import ast
import contextlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ml_collections import ConfigDict

from clipin_jax import storage
from clipin_jax.config.key_links import fields, is_unset
from clipin_jax.config.overrides import apply_changes, apply_overrides, drop_removed
from clipin_jax.config.serialization import from_json, from_tree
from clipin_jax.config.values import find_path
from clipin_jax.errors import ClipinError, did_you_mean, shorten

PACKAGE = Path(__file__).resolve().parents[1]
_SAVED = (".json", ".yaml", ".yml")  # files that hold values, not Python


def list_configs() -> dict[str, str]:
    """Returns the configs that have a name, each with its purpose."""
    return list_purposes(config_folder())


def list_studies() -> dict[str, str]:
    """Returns the studies that have a name, each with its purpose."""
    return list_purposes(config_folder() / "studies")


def find_config(name: str) -> Path:
    """Returns the file of a config.

    name: of `list_configs`, a .py, .json or .yaml file, or a run's folder; the folder
      and .json and .yaml files also by URL.

    Raises:
      ClipinError: none of them, with the nearest name.
    """
    if path := _config_file(name):
        return path
    named = find_path(str(config_folder() / f"{name}.py"))
    if named and named.is_file():
        return named
    raise ClipinError(
        f"no config {shorten(repr(name))}: it is no file, no run folder and no known "
        f"name; {did_you_mean(name, list_configs())}"
    )


def _config_file(name: str) -> Path | None:
    if storage.is_remote(name):
        url = name if name.endswith(_SAVED) else storage.join(name, "config.json")
        return Path(url) if storage.exists(url) else None
    path = find_path(name)
    if path is None:
        return None
    if path.suffix in (".py", *_SAVED) and path.is_file():
        return path
    run = path / "config.json"
    return run if run.is_file() else None


def named_run(spec: str) -> str | None:
    """Returns the folder of the run that a spec names; None if it names no run.

    Raises:
      ClipinError: as `find_config` does.
    """
    path = find_config(split_spec(spec)[0])
    is_run = path.stem == "config" and path.suffix in _SAVED
    return str(path.parent) if is_run else None


def split_spec(spec: str) -> tuple[str, str]:
    """Returns the name and the options of "NAME:OPTIONS".

    The name of an existing file or run folder may have colons itself.
    """
    parts = spec.split(":")
    for count in range(len(parts), 1, -1):
        name = ":".join(parts[:count])
        if _config_file(name):
            return name, ":".join(parts[count:])
    name, _, arg = spec.partition(":")
    return name, arg


def load_config(
    spec: str | Path,
    overrides: Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
    *,
    optional: str = "",
    without_data: bool = False,
) -> ConfigDict:
    """Returns a locked config.

    Args:
      spec: "NAME", "NAME:OPTIONS", a path, or a run's folder.
      overrides: "dotted.key=value", see `apply_overrides`; applied last.
      changes: dotted keys and values, see `apply_changes`.
      optional: a group such as "evals", whose entries are left out where they need a
        value that is not given.
      without_data: whether paths that the user must give may be missing, for a program
        that reads no data; they are "" then.

    Raises:
      ClipinError: what is wrong with the name, options, file, changes or overrides.
    """
    _check_arguments(overrides, changes)
    config = read_config(spec := str(spec))
    if changes:
        config = apply_changes(config, changes)
    if overrides:
        config = apply_overrides(config, overrides)
    drop_removed(config)
    if without_data:
        _fill_unset(config)
    unset = [key for key, _, _, field in fields(config) if is_unset(field)]
    if optional:
        incomplete = {k.split(".")[1] for k in unset if k.startswith(f"{optional}.")}
        removed = {f"{optional}.{name}": None for name in incomplete}
        config = apply_changes(config, removed)
        unset = [key for key in unset if not key.startswith(f"{optional}.")]
    if unset:
        raise ClipinError(f"config {spec} needs a value for {unset[0]}: {unset[0]}=...")
    return config.lock()


def _fill_unset(config: ConfigDict) -> None:
    for _, group, name, field in list(fields(config)):
        if is_unset(field):
            group[name] = ""


def _check_arguments(overrides: Any, changes: Any) -> None:
    """Checks what Python code gives, before it is taken apart."""
    is_list = isinstance(overrides, list | tuple)
    if not is_list or not all(isinstance(item, str) for item in overrides):
        raise ClipinError(
            f"overrides is {shorten(repr(overrides))}: give a list, such as "
            "['total_steps=200'], or a dict as changes"
        )
    is_dict = changes is None or isinstance(changes, Mapping)
    if not is_dict or not all(isinstance(key, str) for key in changes or {}):
        raise ClipinError(
            f"changes is {shorten(repr(changes))}: give a dict of keys and values, "
            "such as {'total_steps': 200}"
        )


def read_config(spec: str) -> ConfigDict:
    """Returns a config as its file has it, not locked; values may be missing."""
    name, arg = split_spec(spec)
    path = find_config(name)
    if path.suffix in _SAVED:
        return _read_saved(path, arg)
    return _run_config_file(path, arg)


def _docstring(path: Path) -> str:
    try:
        return ast.get_docstring(ast.parse(path.read_text())) or ""
    except SyntaxError:
        return "(not valid Python)"


def config_folder() -> Path:
    """Returns the folder of configs: that of the clone, else the installed one."""
    clone = PACKAGE.parent
    if (clone / "setup.py").is_file() and (clone / "configs").is_dir():
        return clone / "configs"
    return PACKAGE / "configs"


def list_purposes(folder: Path) -> dict[str, str]:
    """Returns the Python files of a folder, each with its docstring's first line."""
    return {
        path.stem: _docstring(path).partition("\n")[0]
        for path in sorted(folder.glob("*.py"))
    }


def _run_config_file(path: Path, arg: str) -> ConfigDict:
    config = call_file(path, "get_config", arg)
    if not isinstance(config, ConfigDict):
        raise ClipinError(f"config {path}: get_config(arg) must return a ConfigDict")
    return config


def call_file(path: Path, function: str, *arguments: Any) -> Any:
    """Calls a function of a Python file and returns its result.

    Raises:
      ClipinError: whatever the file raises, with the line.
    """
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # the suffix is .py
    module = importlib.util.module_from_spec(spec)
    try:
        with _importable(path.resolve().parent):
            spec.loader.exec_module(module)
            if not hasattr(module, function):
                raise ClipinError(f"{path} has no function {function}: define it there")
            return getattr(module, function)(*arguments)
    except ClipinError as error:
        raise ClipinError(f"config {path.stem}: {error}") from None
    except Exception as error:  # whatever a user's file may raise
        line = _failing_line(error, path)
        raise ClipinError(
            f"config {path}, line {line}: {type(error).__name__}: {error}"
        ) from error


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Lets a file import the files beside it, as a script does.

    They are forgotten afterwards: files of the same name in another folder differ.
    """
    if str(folder) in sys.path:
        yield
        return
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file and folder in Path(file).parents:
                del sys.modules[name]


def _failing_line(error: Exception, path: Path) -> int | None:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(path)
    ]
    return lines[-1] if lines else 1


def _read_saved(path: Path, arg: str) -> ConfigDict:
    """Reads the config of a run, as JSON or YAML."""
    if arg:
        raise ClipinError(f"{path} takes no options, but was given {arg!r}")
    try:
        text = storage.read(storage.full_path(path)).decode()
        return from_json(text) if path.suffix == ".json" else _from_yaml(text)
    except (OSError, ValueError) as error:
        raise ClipinError(f"config {path} cannot be read: {error}") from error


def _from_yaml(text: str) -> ConfigDict:
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    if not isinstance(tree, dict):
        raise ValueError("it holds no mapping")
    return from_tree(tree)


def missing_key(error: AttributeError | KeyError) -> str | None:
    """Returns the key that a ConfigDict lacked, if that caused the error, else None."""
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    if "ml_collections" not in Path(raised_in).parts:
        return None
    cause = error if isinstance(error, KeyError) else error.args[0]
    if not isinstance(cause, KeyError):
        return None
    return str(cause.args[0]).partition("\n")[0]
