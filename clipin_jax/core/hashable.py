"""Makes arguments of modules and optimizers hashable, so that equal ones are shared."""

from collections.abc import Mapping
from typing import Any

from flax.core import FrozenDict
from ml_collections import ConfigDict


def hashable(value: Any) -> Any:
    """Returns a config value with lists as tuples and dicts as frozen dicts."""
    if isinstance(value, (Mapping, ConfigDict)):
        return FrozenDict({key: hashable(item) for key, item in value.items()})
    return tuple(map(hashable, value)) if isinstance(value, (list, tuple)) else value
