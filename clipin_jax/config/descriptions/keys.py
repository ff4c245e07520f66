"""The meaning of a key of a config."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from clipin_jax.config.class_arguments import target_of
from clipin_jax.config.descriptions.class_docs import describe_arguments
from clipin_jax.config.descriptions.recipe_keys import describe_recipe_key


def describe_key(config: ConfigDict, key: str) -> str:
    """Returns what a dotted key means; "" if neither table nor docstring says it.

    Args:
      config: has the group of the key; required values may be missing.
      key: listed in the config or not.

    Raises:
      ClipinError: the group names a class that does not exist.
    """
    if text := describe_recipe_key(key):
        return text
    place, _, name = key.rpartition(".")
    target = target_of(place, _group(config, place))
    text = "" if target is None else describe_arguments(target).get(name, "")
    return text[:1].upper() + text[1:]


def _group(config: ConfigDict, place: str) -> Mapping[str, Any]:
    group: Any = config
    for word in filter(None, place.split(".")):
        group = group.get(word, {}) if isinstance(group, Mapping | ConfigDict) else {}
    return group if isinstance(group, Mapping | ConfigDict) else {}
