"""The options after a config's colon, such as "clipin,variant=S/16"."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from clipin_jax.config.values import read_value
from clipin_jax.errors import ClipinError, did_you_mean


def parse_options(arg: str | None, **defaults: Any) -> ConfigDict:
    """Returns the options after a config's colon, such as "clipin,variant=S/16".

    Args:
      arg: options with commas between; a bare name means True.
      defaults: name to default, which also gives the type. A dict gives the choices:
        its keys, of which the first stands for a bare name; "" if the option is absent.

    Raises:
      ClipinError: an option that is not among the defaults, or of another type.
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
            options[name] = read_value(
                text if equals else "True", default, type(default), f"option {name!r}"
            )
    return options.lock()


def _chosen(option: str, name: str, known: Sequence[str]) -> str:
    if name not in known:
        raise ClipinError(
            f"config option {option} is {name!r}: {did_you_mean(name, known)}"
        )
    return name
