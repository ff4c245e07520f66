"""What config files are written with, and how a config is found, changed and saved.

A config file is Python with `get_config(arg)`, which returns a `ConfigDict`. It
imports ml_collections and this module, nothing else of ours.
"""

import ast
import hashlib
import importlib.util
import json
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from clipin_jax.errors import ClipinError
from clipin_jax.overrides import (
    apply_changes,
    apply_overrides,
    coerce,
    did_you_mean,
    fields,
    is_unset,
)
from clipin_jax.plugin import CLIPIN, plug_clipin
from clipin_jax.presets import (
    adamw,
    cosine,
    joint_space,
    linear,
    pair_data,
    pair_evals,
    pair_source,
    run_local,
    run_settings,
    run_small,
    warmup_cosine,
)
from clipin_jax.study_presets import FAMILY, SCENE_METRICS, on_scenes
from clipin_jax.variants import resnet, text, vit

__all__ = [
    "CLIPIN", "FAMILY", "SCENE_METRICS", "adamw", "apply_changes",
    "apply_overrides", "config_hash", "cosine", "difference", "find_config",
    "from_json", "joint_space", "linear", "list_configs", "list_studies",
    "load_config", "missing_key", "on_scenes", "pair_data", "pair_evals",
    "pair_source", "parse_arg", "plug_clipin", "resnet", "resolve", "run_local",
    "run_settings", "run_small", "text", "to_json", "vit", "warmup_cosine",
]  # fmt: skip

PACKAGE = Path(__file__).resolve().parent


def parse_arg(arg: str | None, **defaults: Any) -> ConfigDict:
    """Read the options after a config's colon, such as "clipin,variant=S/16".

    The type of an option is that of its default; a bare name means True. A default that
    is a dict means one of its keys: "" when left out, the first when bare. Raises
    ClipinError for an option that is not among the defaults or of another type.
    """
    choices = {name: list(v) for name, v in defaults.items() if isinstance(v, Mapping)}
    options = ConfigDict(defaults | dict.fromkeys(choices, ""))
    for item in filter(None, (part.strip() for part in (arg or "").split(","))):
        name, equals, text = (part.strip() for part in item.partition("="))
        if name not in defaults:
            raise ClipinError(
                f"unknown config option {name!r}: {did_you_mean(name, defaults)}"
            )
        if name in choices:
            chosen = text if equals else choices[name][0]
            options[name] = _chosen(name, chosen, choices[name])
            continue
        default = defaults[name]
        if not equals and not isinstance(default, bool):
            raise ClipinError(
                f"config option {name!r} needs a value, such as {name}={default}"
            )
        with options.ignore_type():
            options[name] = coerce(
                text if equals else "True", default, type(default), f"option {name!r}"
            )
    return options.lock()


def _chosen(option: str, name: str, known: Sequence[str]) -> str:
    if name not in known:
        raise ClipinError(
            f"config option {option} is {name!r}: {did_you_mean(name, known)}"
        )
    return name


def list_configs() -> dict[str, str]:
    """Each config that is found by name, with the first line of its docstring."""
    return first_lines(config_folder())


def list_studies() -> dict[str, str]:
    """Each study that is found by name, with the first line of its docstring."""
    return first_lines(config_folder() / "studies")


def find_config(name: str) -> Path:
    """The file of a config: a path, a run folder, or a name out of `list_configs`."""
    path = Path(name)
    if path.suffix in (".py", ".json") and path.is_file():
        return path
    if (path / "config.json").is_file():
        return path / "config.json"
    named = config_folder() / f"{name}.py"
    if named.is_file():
        return named
    raise ClipinError(
        f"no config {name!r}, neither a file, a run folder nor a known name: "
        f"{did_you_mean(name, list_configs())}"
    )


def load_config(
    spec: str,
    overrides: Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
) -> ConfigDict:
    """A locked config from "NAME", "NAME:OPTIONS", a path, or a run folder.

    `overrides` are "dotted.key=value" strings, see `apply_overrides`; `changes` are
    dotted keys and values, see `apply_changes`, and come first. Raises ClipinError for
    what is wrong with the name, options, file, changes or overrides.
    """
    name, _, arg = spec.partition(":")
    path = find_config(name)
    if path.suffix == ".json":
        config = _read_json(path, arg)
    else:
        config = _run_config_file(path, arg)
    config = apply_overrides(apply_changes(config, changes or {}), overrides)
    unset = [key for key, _, _, field in fields(config) if is_unset(field)]
    if unset:
        raise ClipinError(f"config {spec} needs a value for {unset[0]}: {unset[0]}=...")
    return config.lock()


def resolve(config: ConfigDict) -> dict[str, Any]:
    """The config as plain dicts, references followed, every list made a tuple."""
    return _frozen(config.to_dict())


def to_json(config: ConfigDict) -> str:
    """The resolved config as JSON; tuples are written as lists."""
    return json.dumps(resolve(config), indent=2, sort_keys=True, default=_refuse) + "\n"


def from_json(data: str) -> ConfigDict:
    """The inverse of `to_json`, lists read as tuples. Not locked.

    Raises ValueError if `data` is no JSON object.
    """
    tree = json.loads(data)
    if not isinstance(tree, dict):
        raise ValueError("it holds no JSON object")
    return ConfigDict(_frozen(tree))


def config_hash(config: ConfigDict) -> str:
    """Twelve hexadecimal digits that are the same for equal resolved configs."""
    return hashlib.sha256(to_json(config).encode()).hexdigest()[:12]


def difference(a: ConfigDict, b: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (value in `a`, value in `b`) where they differ; None if absent."""
    flat_a, flat_b = _flatten(resolve(a)), _flatten(resolve(b))
    missing = object()
    return {
        key: (flat_a.get(key), flat_b.get(key))
        for key in sorted(flat_a.keys() | flat_b.keys())
        if flat_a.get(key, missing) != flat_b.get(key, missing)
    }


def missing_key(error: AttributeError | KeyError) -> str | None:
    """The key that a ConfigDict was asked for in vain, if the error says that."""
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    if "ml_collections" not in Path(raised_in).parts:
        return None
    cause = error if isinstance(error, KeyError) else error.args[0]
    if not isinstance(cause, KeyError):
        return None
    return str(cause.args[0]).partition("\n")[0]


def _docstring(path: Path) -> str:
    try:
        return ast.get_docstring(ast.parse(path.read_text())) or ""
    except SyntaxError:
        return "(not valid Python)"


def config_folder() -> Path:
    """The clone's configs where the package stands in a clone, else the installed."""
    clone = PACKAGE.parent
    if (clone / "setup.py").is_file() and (clone / "configs").is_dir():
        return clone / "configs"
    return PACKAGE / "configs"


def first_lines(folder: Path) -> dict[str, str]:
    """The Python files of a folder, each with the first line of its docstring."""
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
    """What a function of a Python file returns.

    Raises ClipinError for whatever is wrong in there, with the line.
    """
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # the suffix is .py
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return getattr(module, function)(*arguments)
    except ClipinError as error:
        raise ClipinError(f"config {path.stem}: {error}") from None
    except Exception as error:  # whatever a user's file may raise
        line = _failing_line(error, path)
        raise ClipinError(
            f"config {path}, line {line}: {type(error).__name__}: {error}"
        ) from error


def _failing_line(error: Exception, path: Path) -> int | None:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(path)
    ]
    return lines[-1] if lines else 1


def _read_json(path: Path, arg: str) -> ConfigDict:
    if arg:
        raise ClipinError(f"{path} takes no options, but was given {arg!r}")
    try:
        return from_json(path.read_text())
    except (OSError, ValueError) as error:
        raise ClipinError(f"config {path} can not be read: {error}") from error


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _refuse(value: Any) -> None:
    raise ClipinError(
        f"config value {value!r} can not be saved as JSON: use numbers, strings, "
        "booleans, None, tuples and dicts"
    )
