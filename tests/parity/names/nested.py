"""Nested dicts from paths, for the name tables."""

from collections.abc import Iterable
from typing import Any


def nested(leaves: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a nested dict of (path, leaf) pairs: ("a/b", 1) gives {"a": {"b": 1}}."""
    tree: dict[str, Any] = {}
    for path, value in leaves:
        *parents, leaf = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        assert leaf not in node, f"two arrays have the path {path}"
        node[leaf] = value
    return tree
