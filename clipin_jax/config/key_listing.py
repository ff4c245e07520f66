"""Every value of a config with where it comes from, and what differs between two."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from clipin_jax.config.class_arguments import defaults
from clipin_jax.config.key_origins import flatten, origin, recorded_recipes
from clipin_jax.config.load import find_config, read_config, split_spec
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
