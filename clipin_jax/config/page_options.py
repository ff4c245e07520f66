"""The options after a config's colon, such as "clipin,variant=S/16"."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from clipin_jax.config.values import find_path, read_literal, read_value
from clipin_jax.errors import ClipinError, did_you_mean

_OPENING = ("'", '"', "(", "[", "{")  # begin a value that may have commas


def parse_options(arg: str | None, **defaults: Any) -> ConfigDict:
    """Returns the options after a config's colon, such as "clipin,variant=S/16".

    Args:
      arg: options with commas between; a bare name means True. A value may be in quotes
        or brackets, and have commas there; one that is an existing path needs none.
      defaults: name to default, which also gives the type. A dict gives the choices:
        its keys, of which the first stands for a bare name; "" if the option is absent.

    Raises:
      ClipinError: an option that is not among the defaults, or of another type.
    """
    choices = {name: list(v) for name, v in defaults.items() if isinstance(v, Mapping)}
    options = ConfigDict(defaults | dict.fromkeys(choices, ""))
    for item in _split(arg or ""):
        name, equals, text = (part.strip() for part in item.partition("="))
        if name not in defaults:
            hint = "; put a value with commas in quotes" if "," in (arg or "") else ""
            known = did_you_mean(name, defaults)
            raise ClipinError(f"unknown config option {name!r}: {known}{hint}")
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


def _split(arg: str) -> Iterator[str]:
    """Yields the options of a text, which is split at the commas outside of values."""
    parts = arg.split(",")
    while parts:
        # The longest value first; a part alone needs no check.
        most = len(parts) if "=" in parts[0] else 1
        for count in range(most, 0, -1):
            item = ",".join(parts[:count]).strip()
            if count == 1 or _is_whole(item.partition("=")[2].strip()):
                break
        del parts[:count]
        if item:
            yield item


def _is_whole(text: str) -> bool:
    """Whether a text with commas is one value: a literal, or an existing path."""
    if text[:1] in _OPENING:
        value = read_literal(text)  # "'a', b='c'" is no literal, "'a', 'b'" a tuple
        return value != text and (text[0] == "(" or not isinstance(value, tuple))
    return find_path(text) is not None


def _chosen(option: str, name: str, known: Sequence[str]) -> str:
    if name not in known:
        raise ClipinError(
            f"config option {option} is {name!r}: {did_you_mean(name, known)}"
        )
    return name
