"""A model of another library: its weights, their names, and what its files state."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from clipin_jax.config import with_defaults
from clipin_jax.core.parameter_paths import compile_pattern
from clipin_jax.errors import ClipinError
from clipin_jax.interop.table import Table
from clipin_jax.interop.weights import Weights

PARTS = {"image": r"^towers/image/", "text": r"^towers/text/", "all": r""}
# Keys that say how inputs are prepared; they belong to a part, too.
_PREPARATION = {
    "image": ("model.image.", "model.image_", "data.resize", "data.augment."),
    "text": ("model.text.", "data.context_length", "data.tokenizer."),
}


class ForeignModel(NamedTuple):
    """A model of another library.

    Attributes:
      label: what it is and where, for messages.
      weights: its arrays.
      table: their names.
      config: the name of the page whose models are of this kind, with options, such as
        `clip`; "" for a single tower.
      settings: key of our configs -> value, of all that the files state and that has a
        share in what the model computes, such as `model.image.activation`. A `Path` is
        a file; one with the same content will do.
      assumed: key -> usual value, of what the files do not state. A config may have
        another one: it counts, and is reported.
      notes: what else differs from what a config can have, a sentence each.
      run_config: the whole config, of a model that a run of ours has trained.
      tokenizer: its tokenizer.json; None if there is none.
    """

    label: str
    weights: Weights
    table: Table
    config: str
    settings: Mapping[str, Any]
    assumed: Mapping[str, Any] = MappingProxyType({})
    notes: Sequence[str] = ()
    run_config: ConfigDict | None = None
    tokenizer: Path | None = None


class Ecosystem(NamedTuple):
    """How to recognise and open the models of one library.

    Attributes:
      name: of the library, for messages.
      open: a local file or folder -> its model; None if it is of another library.
    """

    name: str
    open: Callable[[Path], ForeignModel | None]


def check_settings(
    config: ConfigDict, model: ForeignModel, parts: Sequence[str] = ("all",)
) -> None:
    """Checks that a config makes the model that other files describe.

    Args:
      config: of ours.
      model: whose settings count, of the parts that are read.
      parts: as in `select_paths`.

    Raises:
      ClipinError: values differ; the message names both and the keys to set.
    """
    config = with_defaults(config)  # of classes, too
    different = [
        f"{key} is {ours!r}, there {_named(theirs)!r}"
        for key, theirs in model.settings.items()
        if belongs(key, parts)
        and not _equal(ours := _value(config, key), theirs)
        and not _is_fitted(key, ours, model)
    ]
    if different:
        keys = " ".join(
            f"{key}={_shown(value)}"
            for key, value in model.settings.items()
            if any(line.startswith(f"{key} is ") for line in different)
        )
        raise ClipinError(
            f"the config makes another model than {model.label}: "
            f"{'; '.join(different)}: set {keys}"
        )


def config_changes(model: ForeignModel) -> dict[str, Any]:
    """Returns key -> value of a config that makes the model; files by their paths."""
    stated = {**model.assumed, **model.settings}
    return {key: _named(value) for key, value in stated.items()}


def assumptions(
    config: ConfigDict, model: ForeignModel, parts: Sequence[str] = ("all",)
) -> str:
    """Returns a line on what the files of a model do not state; "" if nothing.

    Args:
      config: of ours, whose values count.
      model: of another library.
      parts: as in `select_paths`.
    """
    config = with_defaults(config)
    taken = []
    for key, usual in model.assumed.items():
        if belongs(key, parts):
            ours = _value(config, key)
            other = "" if _equal(ours, usual) else f" (usual: {_shown(usual)})"
            taken.append(f"{key}={_shown(ours)}{other}")
    if not taken:
        return ""
    return f"{model.label} does not state what the config decides: {', '.join(taken)}"


def select_paths(paths: Sequence[str], parts: Sequence[str]) -> list[str]:
    """Returns the paths of the parts.

    Args:
      paths: of parameters.
      parts: keys of `PARTS`, or regular expressions.

    Raises:
      ClipinError: a part that matches no path.
    """
    selected: list[str] = []
    for part in parts:
        pattern = compile_pattern(PARTS.get(part, part), "init_parts")
        matched = [path for path in paths if pattern.search(path)]
        if not matched:
            raise ClipinError(
                f"init_parts: {part!r} matches no parameter: use "
                f"{', '.join(PARTS)} or a regular expression of paths"
            )
        selected += matched
    return [path for path in paths if path in set(selected)]


def belongs(key: str, parts: Sequence[str]) -> bool:
    """Whether a setting is one of the parts; a regular expression may touch all.

    Args:
      key: of our configs, or a group of keys that ends with a dot.
      parts: as in `select_paths`.
    """
    if not {"image", "text"}.issuperset(parts):
        return True
    return any(key.startswith(_PREPARATION[part]) for part in parts)


def _is_fitted(key: str, ours: Any, model: ForeignModel) -> bool:
    """Whether a table of positions is fitted to another value, see `positions`."""
    if key == "model.image.image_size":
        return True
    # If a tower is causal or masks the padding, as a BERT does, it encodes a text as
    # before without the places after its end.
    is_same = model.settings.get("model.text.causal", True)
    theirs = model.settings[key]
    return key == "model.text.context_length" and is_same and ours < theirs


def _value(config: ConfigDict, key: str) -> Any:
    node: Any = config
    for name in key.split("."):
        node = node[name] if name in node else None
        if node is None:
            return None
    return node


def _equal(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, Path):
        file = Path(ours or "").expanduser()
        return file.is_file() and file.read_bytes() == theirs.read_bytes()
    if isinstance(theirs, float):
        return ours is not None and abs(ours - theirs) <= 1e-9 * abs(theirs)
    if isinstance(theirs, list | tuple):
        pairs = isinstance(ours, list | tuple) and len(ours) == len(theirs)
        return pairs and all(map(_equal, ours, theirs))
    return ours == theirs


def _named(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _shown(value: Any) -> str:
    text = str(value).replace(" ", "")
    return f"'{text}'" if "(" in text else text
