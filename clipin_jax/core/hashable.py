"""Arguments of modules and optimizers with hashes, so that equal ones are shared."""

from collections.abc import Mapping
from typing import Any

from flax.core import FrozenDict
from ml_collections import ConfigDict


def hashable(value: Any) -> Any:
    """Returns a value of a config with tuples for lists and frozen dicts for dicts."""
    if isinstance(value, (Mapping, ConfigDict)):
        return FrozenDict({key: hashable(item) for key, item in value.items()})
    return tuple(map(hashable, value)) if isinstance(value, (list, tuple)) else value
