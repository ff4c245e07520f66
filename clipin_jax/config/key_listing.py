"""Every value of a config with where it comes from, and what differs between two."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from clipin_jax.config.class_arguments import defaults
from clipin_jax.config.key_origins import flatten, origin, recorded_recipes
from clipin_jax.config.load import (
    find_config,
    list_configs,
    read_config,
    split_spec,
)
from clipin_jax.config.overrides import apply_overrides, drop_removed, split_override
from clipin_jax.config.serialization import freeze


class Entry(NamedTuple):
    """A value of a config.

    Attributes:
      value: `UNSET` if the user has to give it.
      origin: "override", "page", "recipe", "run" or "default".
      owner: the function of a recipe, the class of a default.
    """

    value: Any
    origin: str
    owner: str = ""


def explain_config(spec: str, overrides: Sequence[str] = ()) -> dict[str, Entry]:
    """Returns dotted key -> entry, the defaults that the config leaves out among them.

    Args:
      spec: as for `load_config`; required values may be missing.
      overrides: as for `load_config`.

    Raises:
      ClipinError: as `load_config` does.
    """
    with recorded_recipes() as calls:
        config = read_config(spec)
    file = "page" if find_config(split_spec(spec)[0]).suffix == ".py" else "run"
    config = apply_overrides(config, overrides)
    drop_removed(config)
    changed = tuple(f"{split_override(text)[0]}." for text in overrides)

    def entry(key: str, value: Any) -> Entry:
        if f"{key}.".startswith(changed):
            return Entry(value, "override")
        recipe = origin(key, value, calls)
        return Entry(value, "recipe", recipe) if recipe else Entry(value, file)

    entries = {key: entry(key, value) for key, value in flatten(config).items()}
    for key, value, owner in defaults(config):
        entries[key] = Entry(value, "default", owner)
    return dict(sorted(entries.items()))


def config_values(config: ConfigDict) -> dict[str, Any]:
    """Returns dotted key -> value, the defaults that the config leaves out among them.

    `UNSET` stands for a value that is required and not given yet.
    """
    left_out = {key: value for key, value, _ in defaults(config)}
    return dict(sorted((flatten(config) | left_out).items()))


def base_page(config: ConfigDict) -> str:
    """Returns the page that a config is made from, by its name; "" if none has it.

    Options of a page add to the name, as in "clip_clipin" of the page "clip".
    """
    name = f"{config.get('name', '')}_"
    pages = [page for page in list_configs() if name.startswith(f"{page}_")]
    return max(pages, key=len, default="")


def changes_of_page(config: ConfigDict) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what differs from `base_page` without options: values there, and here.

    A key that is absent on one side has no value there.
    """
    entries = explain_config(base_page(config))
    page = {key: entry.value for key, entry in entries.items()}
    here, missing = config_values(config), object()
    changed = [
        key
        for key in sorted(page.keys() | here.keys())
        if freeze(page.get(key, missing)) != freeze(here.get(key, missing))
    ]
    there, now = ({k: side[k] for k in changed if k in side} for side in (page, here))
    return there, now


def differing(
    a: dict[str, Entry], b: dict[str, Entry]
) -> dict[str, tuple[Entry | None, Entry | None]]:
    """Returns dotted key -> entries of both where values differ; None if absent."""
    missing = Entry(object(), "")
    return {
        key: (a.get(key), b.get(key))
        for key in sorted(a.keys() | b.keys())
        if freeze(a.get(key, missing).value) != freeze(b.get(key, missing).value)
    }
