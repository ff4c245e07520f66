"""SugarCrepe, Winoground and MMVP-VLM as they are published, read into one form."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from clipin_jax.data import storage
from clipin_jax.data.formats.folders import Listing, list_folder
from clipin_jax.data.source import Annotations, Record, fingerprint
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.datasets.text_columns import read_columns, read_text

MMVP_PREFIX = "a photo of "


class Item(NamedTuple):
    """One trial: what is told apart, and the part of the benchmark it belongs to.

    images: one or two picture files; texts: two. The first text is of the first image,
    the second one of the second image, or of none.
    """

    group: str
    images: tuple[str, ...]
    texts: tuple[str, str]


class Pictures:
    """Picture files as a source."""

    classes: tuple[str, ...] = ()

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths
        self.fingerprint = fingerprint("pictures", list(paths))

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Record:
        return {"image": storage.read(self._paths[index]), **self.annotations(index)}

    def annotations(self, index: int) -> Annotations:
        """Nothing is said about the picture itself."""
        return {"captions": ()}

    def describe(self, index: int) -> str:
        """The file."""
        return self._paths[index]


def read_items(kind: str, folder: str, images: str) -> list[Item]:
    """The trials of a benchmark.

    kind: a key of `LAYOUTS`; folder: where its texts lie; images: the folder of its
    pictures, by default where the publisher has them inside `folder`.
    Raises ClipinError for what is missing or malformed.
    """
    default, read = LAYOUTS[kind]
    root = images or storage.join(folder, default)
    if list_folder(root) is None:
        raise ClipinError(f"image folder {root} does not exist; set `images`")
    return read(folder, _Finder(root))


class _Finder:
    """Finds pictures in a folder and those inside it, listing each folder once."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._known: dict[str, dict[str, str]] = {}

    def __call__(self, name: str, where: str) -> str:
        """The path of a file, by its name with or without ending."""
        inside, _, base = name.rpartition("/")
        if inside not in self._known:
            folder = storage.join(self._root, inside) if inside else self._root
            found = list_folder(folder) or Listing([], [])
            by_stem = {os.path.splitext(file)[0]: file for file in found.files}
            self._known[inside] = by_stem | {file: file for file in found.files}
        known = self._known[inside]
        if base not in known:
            raise ClipinError(f"{where}: no picture {name} in {self._root}")
        return storage.join(self._root, f"{inside}/" * bool(inside) + known[base])


def _sugarcrepe(folder: str, find: _Finder) -> list[Item]:
    found = list_folder(folder)
    names = [name for name in found.files if name.endswith(".json")] if found else []
    if not names:
        raise ClipinError(f"{folder} has no JSON file, one for each part of SugarCrepe")
    items = []
    for name in names:
        path = storage.join(folder, name)
        entries = _json(read_text(path), path)
        if not isinstance(entries, dict) or not entries:
            raise ClipinError(f"{path} holds no JSON object with an entry a picture")
        for key, entry in entries.items():
            where = f"{path}, entry {key!r}"
            image, *texts = _values(
                entry, ("filename", "caption", "negative_caption"), where
            )
            group = name.removesuffix(".json")
            items.append(Item(group, (find(image, where),), (texts[0], texts[1])))
    return items


def _winoground(folder: str, find: _Finder) -> list[Item]:
    path = storage.join(folder, "examples.jsonl")
    items = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        first, second, *texts = _values(
            _json(line, where), ("image_0", "image_1", "caption_0", "caption_1"), where
        )
        images = find(first, where), find(second, where)
        items.append(Item("", images, (texts[0], texts[1])))
    return items


def _mmvp(folder: str, find: _Finder) -> list[Item]:
    path = storage.join(folder, "Questions.csv")
    rows = {}
    for number, pattern, text in read_columns(
        path, ("Question ID", "Type", "Statement")
    ):
        if not number.isdecimal() or int(number) in rows:
            raise ClipinError(
                f"{path}: Question ID {number!r} is no number, or comes twice"
            )
        rows[int(number)] = pattern, text
    items = []
    for number, (pattern, _) in rows.items():
        if number % 2 == 0:
            continue
        pair = [number, number + 1]
        if pair[1] not in rows:
            break
        images = tuple(find(f"{pattern}/{n}", f"{path}, question {n}") for n in pair)
        first, second = (MMVP_PREFIX + rows[n][1] for n in pair)
        items.append(Item(pattern, images, (first, second)))
    if 2 * len(items) != len(rows):
        raise ClipinError(
            f"{path}: a question is alone; they come in pairs, 1 with 2, 3 with 4"
        )
    return items


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ClipinError(f"{where} is not valid JSON: {error}") from error


def _values(entry: Any, keys: Sequence[str], where: str) -> list[str]:
    """The texts of those keys."""
    for key in keys:
        value = entry.get(key) if isinstance(entry, dict) else None
        if not isinstance(value, str) or not value.strip():
            raise ClipinError(f"{where} has no valid {key!r}")
    return [entry[key].strip() for key in keys]


# kind -> (where the pictures are inside the folder, what reads the trials)
LAYOUTS: dict[str, tuple[str, Callable[[str, _Finder], list[Item]]]] = {
    "sugarcrepe": ("val2017", _sugarcrepe),
    "winoground": ("images", _winoground),
    "mmvp": ("MLLM_VLM Images", _mmvp),
}
