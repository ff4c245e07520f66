"""What stands for each class in zero-shot classification: its name, in prompts.

Names and templates come from lists, from JSON files in the layout of CLIP_benchmark, or
from the package, which ships those of well-known sets. The place for the name is "{}"
here and "{c}" in CLIP_benchmark's files; both are read everywhere.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from clipin_jax.data import class_names as shipped
from clipin_jax.data import storage
from clipin_jax.data.formats.json_file import parse_json
from clipin_jax.errors import ClipinError, did_you_mean

SLOTS = ("{}", "{c}")
BARE = ("{}",)
_log = logging.getLogger(__name__)


def choose_names(
    own: Sequence[str], classes: Sequence[str], names_file: str, dataset: str
) -> tuple[str, ...]:
    """The names of the classes, in label order.

    own: those of the source, () where it has none; classes: a list that comes first;
    names_file: then a JSON file, {data set: [names]}; dataset: its key in there, or
    without a file a set that the package knows. The source's own names come last.

    Raises ClipinError for names that are not strings, are not as many as the source has
    classes, stand in another order, or occur twice.
    """
    if isinstance(classes, str):
        raise ClipinError(f"classes must be a list of names, got {classes!r}")
    names: tuple[str, ...]
    if classes:
        names, where = tuple(classes), "classes"
    elif names_file:
        names, where = tuple(_entry(names_file, dataset, list)), names_file
    elif dataset:
        names, where = shipped.class_names(dataset), f"the names of {dataset!r}"
    else:
        names, where = tuple(own), "the source"
    if not names:
        raise ClipinError(
            "zero_shot: the source has no class names: set `classes`, `names_file` or "
            "`dataset`, or take a source with labels"
        )
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise ClipinError(f"{where}: {name!r} is no name of a class")
    if len(names) == 1:
        raise ClipinError(
            f"{where}: there is one class alone, {names[0]!r}; classification needs at "
            "least two"
        )
    _check_repeats(names, where, allowed=bool((dataset or names_file) and not classes))
    return _in_label_order(names, tuple(own), where, sort=not classes)


def choose_prompts(
    names: Sequence[str], templates: Sequence[str], templates_file: str, dataset: str
) -> tuple[tuple[str, ...], ...]:
    """The prompts of each class.

    templates: a list that comes first; templates_file: then a JSON file, {data set:
    [templates]} or {data set: {name: [prompts]}}, where each class has prompts of its
    own; dataset: its key, or without a file a set that the package knows. The bare name
    comes last.

    Raises ClipinError for a template without a place for the name, or a class without
    a prompt.
    """
    if isinstance(templates, str):
        raise ClipinError(f"templates must be a list of prompts, got {templates!r}")
    if templates:
        chosen, where = tuple(templates), "templates"
    elif templates_file:
        chosen = _entry(templates_file, dataset, (list, dict))
        where = templates_file
    elif dataset in shipped.known_datasets():
        chosen, where = shipped.templates(dataset), f"the templates of {dataset!r}"
    else:
        chosen, where = BARE, "the bare name"
    if isinstance(chosen, Mapping):
        return tuple(_own_prompts(chosen, name, where) for name in names)
    if not chosen:
        raise ClipinError(f"{where} must be a list of prompts, it is empty")
    for template in chosen:
        if not isinstance(template, str) or not any(x in template for x in SLOTS):
            raise ClipinError(
                f"{where}: the template {template!r} has no {{}} (or {{c}}), the place"
                " for the class name"
            )
    return tuple(tuple(_fill(t, name) for t in chosen) for name in names)


def _fill(template: str, name: str) -> str:
    slot = next(slot for slot in reversed(SLOTS) if slot in template)
    return template.replace(slot, name)


def _own_prompts(prompts: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    own = prompts.get(name)
    if own is None:
        raise ClipinError(
            f"{where} has no prompts for class {name!r}: {did_you_mean(name, prompts)}"
        )
    if not isinstance(own, list) or not own or not all(type(x) is str for x in own):
        raise ClipinError(f"{where}: class {name!r} has no list of prompts")
    return tuple(own)


def _entry(path: str, dataset: str, kind: Any) -> Any:
    """What a file in CLIP_benchmark's layout says of a data set."""
    try:
        content = storage.read(path)
    except OSError as error:
        raise ClipinError(
            f"{path} cannot be read ({error.strerror or error})"
        ) from None
    table = parse_json(content, path)
    if not isinstance(table, dict) or not table:
        raise ClipinError(f"{path} must hold an object, {{data set: [...]}}")
    if not dataset and len(table) == 1:
        [dataset] = table
    if dataset not in table:
        asked = f"no data set {dataset!r}" if dataset else "several data sets"
        raise ClipinError(
            f"{path} has {asked}; set `dataset`: {did_you_mean(dataset, table)}"
        )
    if not isinstance(table[dataset], kind):
        raise ClipinError(f"{path}: what it says of {dataset!r} is no list of strings")
    return table[dataset]


def _check_repeats(names: Sequence[str], where: str, allowed: bool) -> None:
    """Says that classes share a name; published lists (ImageNet's) have such classes.

    Equal prompts tie, and ties count against the model: neither class is ever right.
    """
    seen: dict[str, int] = {}
    for number, name in enumerate(names):
        first = seen.setdefault(name, number)
        if first == number:
            continue
        said = f"{where}: classes {first} and {number} are both {name!r}"
        if not allowed:
            raise ClipinError(f"{said}; give each a name of its own")
        _log.warning("%s, so that neither can be told from the other", said)


def _in_label_order(
    names: tuple[str, ...], own: tuple[str, ...], where: str, sort: bool
) -> tuple[str, ...]:
    """The names as the labels count them, by comparison with the source's own names.

    sort: whether names that are the source's own in another order are put in its.
    """
    if not own:
        return names
    if len(names) != len(own):
        raise ClipinError(
            f"{where}: {len(names)} names, but the source has {len(own)} classes "
            f"({own[0]!r} to {own[-1]!r})"
        )
    words, own_words = [_plain(x) for x in names], [_plain(x) for x in own]
    number = {word: i for i, word in enumerate(words)}
    if sort and sorted(number) == sorted(own_words):
        return tuple(names[number[word]] for word in own_words)
    for i, word in enumerate(own_words):
        j = number.get(word, i)
        if words[i] != word and own_words[j] != word:
            raise ClipinError(
                f"{where}: class {i} of the source is {own[i]!r}, but that name stands "
                f"at {j}, and {names[i]!r} at {i}; names must be in label order"
            )
    return names


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name.casefold()).strip()
