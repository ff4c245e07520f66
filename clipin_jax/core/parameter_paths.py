"""Paths of parameters, such as `towers/image/patch_embed/kernel`."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
from flax import traverse_util

from clipin_jax.errors import ClipinError

Params = Mapping[str, Any]


def path_name(path: tuple[Any, ...]) -> str:
    """Returns a path of `jax.tree_util` as text, its parts joined by slashes."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def paths_of(tree: Any) -> list[str]:
    """Returns the path of every leaf."""
    return [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def flatten(tree: Params) -> dict[str, Any]:
    """Returns path -> leaf of a nested dict."""
    return traverse_util.flatten_dict(tree, sep="/")


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the nested dict of path -> leaf."""
    return traverse_util.unflatten_dict(dict(flat), sep="/")


def map_paths(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Maps `function(path, leaf, ...)` over trees of one structure."""
    return jax.tree_util.tree_map_with_path(
        lambda path, *leaves: function(path_name(path), *leaves), tree, *rest
    )


def split(tree: Params, is_first: Callable[[str], bool]) -> tuple[Params, Params]:
    """Splits a nested dict into leaves whose path qualifies, and the others."""
    flat = flatten(tree)
    first = {path: leaf for path, leaf in flat.items() if is_first(path)}
    rest = {path: leaf for path, leaf in flat.items() if path not in first}
    return unflatten(first), unflatten(rest)


def merge(first: Params, second: Params) -> Params:
    """Merges two nested dicts; leaves of `second` replace those of `first`."""
    merged = dict(first)
    for key, value in second.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            value = merge(merged[key], value)
        merged[key] = value
    return merged


def add(first: Params, second: Params) -> Params:
    """Adds two nested dicts; leaves that one of them lacks are those of the other."""
    total = flatten(first)
    for path, leaf in flatten(second).items():
        total[path] = total[path] + leaf if path in total else leaf
    return unflatten(total)


def compile_pattern(pattern: Any, where: str) -> re.Pattern[str]:
    """Compiles a regular expression of a config.

    Raises:
      ClipinError: `pattern` is no regular expression.
    """
    try:
        return re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ClipinError(
            f"{where} has {pattern!r}, which is not a regular expression: {error}"
        ) from None


def require_match(
    pattern: str | re.Pattern[str], paths: Iterable[str], where: str
) -> None:
    """Checks that a pattern matches at least one path.

    Raises:
      ClipinError: it matches none; the message names the nearest path.
    """
    paths, pattern = list(paths), compile_pattern(pattern, where)
    if any(pattern.search(path) for path in paths):
        return
    modules = {
        path.rsplit("/", up)[0] for path in paths for up in range(path.count("/") + 1)
    }
    plain = re.sub(r"[^\w/]+", "", pattern.pattern).strip("/")
    near = difflib.get_close_matches(plain, sorted(modules), n=1, cutoff=0.5)
    top = sorted({"/".join(path.split("/")[:2]) for path in paths})
    raise ClipinError(
        f"{where}: {pattern.pattern!r} matches no parameter: "
        + (f"did you mean {near[0]!r}?" if near else f"paths begin with {top}")
    )
