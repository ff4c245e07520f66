"""A config as JSON and back, its hash, and how two configs differ."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from clipin_jax.config.key_links import links, restore_links
from clipin_jax.errors import ClipinError

LINKS = "links"  # the key of a file that lists them
_FOLLOWS = " = "


def resolve(config: ConfigDict) -> dict[str, Any]:
    """Returns a config as plain dicts: references followed, lists as tuples."""
    return freeze(config.to_dict())


def to_json(config: ConfigDict) -> str:
    """Returns the resolved config as JSON; tuples are written as lists.

    The list `links` beside the values keeps which keys follow others, as in
    "optim.learning_rate.total_steps = total_steps".

    Raises:
      ClipinError: a value that JSON cannot hold.
    """
    tree, texts = resolve(config), links(config)
    if texts:
        tree[LINKS] = [f"{key}{_FOLLOWS}{text}" for key, text in texts.items()]
    return _dump(tree)


def _dump(tree: dict[str, Any]) -> str:
    return json.dumps(tree, indent=2, sort_keys=True, default=_refuse) + "\n"


def from_json(data: str) -> ConfigDict:
    """Returns the config of `to_json`, not locked; lists are read as tuples.

    Keys follow others as before. Files without `links` are read too.

    Raises:
      ValueError: `data` is no JSON object, or its links do not fit its values.
    """
    tree = json.loads(data)
    if not isinstance(tree, dict):
        raise ValueError("it holds no JSON object")
    return from_tree(tree)


def from_tree(tree: Mapping[str, Any]) -> ConfigDict:
    """Returns the config of a parsed file, as `from_json` does.

    Raises:
      ValueError: its links do not fit its values.
    """
    config = ConfigDict(freeze({k: v for k, v in tree.items() if k != LINKS}))
    pairs = [str(line).partition(_FOLLOWS) for line in tree.get(LINKS, ())]
    restore_links(config, {key: text for key, _, text in pairs})
    return config


def config_hash(config: ConfigDict) -> str:
    """Returns twelve hexadecimal digits, the same for equal resolved configs."""
    return hashlib.sha256(_dump(resolve(config)).encode()).hexdigest()[:12]


def difference(a: ConfigDict, b: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Returns dotted key -> (value in `a`, value in `b`) where they differ.

    None stands for a key that is absent.
    """
    flat_a, flat_b = _flatten(resolve(a)), _flatten(resolve(b))
    missing = object()
    return {
        key: (flat_a.get(key), flat_b.get(key))
        for key in sorted(flat_a.keys() | flat_b.keys())
        if flat_a.get(key, missing) != flat_b.get(key, missing)
    }


def freeze(value: Any) -> Any:
    """Returns a tree with every list as a tuple, as JSON cannot tell them apart."""
    if isinstance(value, dict):
        return {key: freeze(item) for key, item in value.items()}
    return tuple(map(freeze, value)) if isinstance(value, list | tuple) else value


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
        f"config value {value!r} cannot be saved as JSON: use numbers, strings, "
        "booleans, None, tuples and dicts"
    )
