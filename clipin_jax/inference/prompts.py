"""Class names and prompts of zero-shot classification.

They come from lists, from JSON files in the layout of CLIP_benchmark, or from the
package, which has those of well-known data sets. The place for the name is "{}" here
and "{c}" in CLIP_benchmark's files; both are accepted everywhere.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from clipin_jax import storage
from clipin_jax.data import class_names as package
from clipin_jax.data.formats.json_file import parse_json
from clipin_jax.errors import ClipinError, did_you_mean

SLOTS = ("{}", "{c}")
BARE_NAME = ("{}",)
_log = logging.getLogger(__name__)


def choose_names(
    source_names: Sequence[str], classes: Sequence[str], names_file: str, dataset: str
) -> tuple[str, ...]:
    """Returns the names of the classes, in label order.

    They are the first of `classes`, `names_file`, `dataset` and `source_names` that is
    not empty.

    Args:
      source_names: class names of the source; () if it has none.
      classes: a list of names.
      names_file: a JSON file, {data set: [names]}.
      dataset: its key in the file; without a file, a data set of the package.

    Raises:
      ClipinError: names that are no strings, differ in number or order from those of
        the source, or occur twice.
    """
    if isinstance(classes, str):
        raise ClipinError(f"classes must be a list of names, got {classes!r}")
    names: tuple[str, ...]
    if classes:
        names, where = tuple(classes), "classes"
    elif names_file:
        names, where = tuple(_entry(names_file, dataset, list)), names_file
    elif dataset:
        names, where = package.class_names(dataset), f"the names of {dataset!r}"
    else:
        names, where = tuple(source_names), "the source"
    if not names:
        raise ClipinError(
            "zero_shot: the source has no class names: set `classes`, `names_file` or "
            "`dataset`, or take a source with labels"
        )
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise ClipinError(f"{where}: {name!r} is no class name")
    if len(names) == 1:
        raise ClipinError(
            f"{where}: there is one class alone, {names[0]!r}; classification needs at "
            "least two"
        )
    _check_repeats(names, where, allowed=bool((dataset or names_file) and not classes))
    return _in_label_order(names, tuple(source_names), where, sort=not classes)


def choose_prompts(
    names: Sequence[str], templates: Sequence[str], templates_file: str, dataset: str
) -> tuple[tuple[str, ...], ...]:
    """Returns the prompts of each class.

    They come from the first of `templates`, `templates_file` and `dataset` that is not
    empty, else they are the bare names.

    Args:
      names: of the classes.
      templates: a list of templates.
      templates_file: a JSON file, {data set: [templates]}, or {data set: {name:
        [prompts]}} with other prompts for each class.
      dataset: its key in the file; without a file, a data set of the package.

    Raises:
      ClipinError: a template without a place for the name, or a class without a prompt.
    """
    if isinstance(templates, str):
        raise ClipinError(f"templates must be a list of prompts, got {templates!r}")
    if templates:
        chosen, where = tuple(templates), "templates"
    elif templates_file:
        chosen = _entry(templates_file, dataset, (list, dict))
        where = templates_file
    elif dataset in package.known_datasets():
        chosen, where = package.templates(dataset), f"the templates of {dataset!r}"
    else:
        chosen, where = BARE_NAME, "the bare name"
    if isinstance(chosen, Mapping):
        return tuple(_class_prompts(chosen, name, where) for name in names)
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


def _class_prompts(
    prompts: Mapping[str, Any], name: str, where: str
) -> tuple[str, ...]:
    texts = prompts.get(name)
    if texts is None:
        raise ClipinError(
            f"{where} has no prompts for class {name!r}: {did_you_mean(name, prompts)}"
        )
    is_list = isinstance(texts, list) and all(type(text) is str for text in texts)
    if not is_list or not texts:
        raise ClipinError(f"{where}: class {name!r} has no list of prompts")
    return tuple(texts)


def _entry(path: str, dataset: str, kind: type | tuple[type, ...]) -> Any:
    """Returns the value of a data set in a file of CLIP_benchmark's layout."""
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
        problem = f"no data set {dataset!r}" if dataset else "several data sets"
        raise ClipinError(
            f"{path} has {problem}; set `dataset`: {did_you_mean(dataset, table)}"
        )
    if not isinstance(table[dataset], kind):
        raise ClipinError(f"{path}: its value of {dataset!r} is no list of strings")
    return table[dataset]


def _check_repeats(names: Sequence[str], where: str, allowed: bool) -> None:
    """Warns of classes with the same name; published lists, as ImageNet's, have some.

    Equal prompts tie, and ties count against the model: neither class is ever
    predicted.
    """
    first_number: dict[str, int] = {}
    for number, name in enumerate(names):
        first = first_number.setdefault(name, number)
        if first == number:
            continue
        message = f"{where}: classes {first} and {number} are both {name!r}"
        if not allowed:
            raise ClipinError(f"{message}; give each its own name")
        _log.warning("%s: no image of them can be classified right", message)


def _in_label_order(
    names: tuple[str, ...], source_names: tuple[str, ...], where: str, sort: bool
) -> tuple[str, ...]:
    """Returns the names in label order, by comparison with the names of the source.

    sort: whether to reorder names that are those of the source in another order.
    """
    if not source_names:
        return names
    if len(names) != len(source_names):
        raise ClipinError(
            f"{where}: {len(names)} names, but the source has {len(source_names)} "
            f"classes ({source_names[0]!r} to {source_names[-1]!r})"
        )
    plain, source_plain = ([_plain(x) for x in y] for y in (names, source_names))
    index = {name: i for i, name in enumerate(plain)}
    if sort and sorted(index) == sorted(source_plain):
        return tuple(names[index[name]] for name in source_plain)
    for i, name in enumerate(source_plain):
        j = index.get(name, i)
        if plain[i] != name and source_plain[j] != name:
            raise ClipinError(
                f"{where}: class {i} of the source is {source_names[i]!r}, but that "
                f"name is at {j}, and {names[i]!r} at {i}; names must be in label order"
            )
    return names


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name.casefold()).strip()
