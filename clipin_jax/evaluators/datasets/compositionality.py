"""Reads SugarCrepe, Winoground and MMVP-VLM, as published, into one form."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from clipin_jax import storage
from clipin_jax.data.formats.folders import Listing, list_folder
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.datasets.text_columns import read_columns, read_text

MMVP_PREFIX = "a photo of "


class Trial(NamedTuple):
    """Images and texts that differ in a detail.

    Attributes:
      group: part of the benchmark that the trial belongs to.
      images: one or two image files.
      texts: two; the first describes the first image, the second the second image, if
        there is one.
    """

    group: str
    images: tuple[str, ...]
    texts: tuple[str, str]


def read_trials(layout: str, folder: str, images: str) -> list[Trial]:
    """Reads the trials of a benchmark.

    Args:
      layout: a key of `LAYOUTS`.
      folder: of the texts.
      images: folder of the images; "" for the publisher's place inside `folder`.

    Raises:
      ClipinError: files that are missing or malformed.
    """
    default, read = LAYOUTS[layout]
    image_folder = images or storage.join(folder, default)
    if list_folder(image_folder) is None:
        raise ClipinError(f"image folder {image_folder} does not exist; set `images`")
    return read(folder, _ImageFinder(image_folder))


class _ImageFinder:
    """Finds images in a folder and its subfolders; lists each folder once."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._files: dict[str, dict[str, str]] = {}  # subfolder -> name -> file

    def __call__(self, name: str, where: str) -> str:
        """Returns the path of a file, by its name with or without the extension.

        Raises ClipinError, which starts with `where`, if there is none.
        """
        subfolder, _, base = name.rpartition("/")
        if subfolder not in self._files:
            self._files[subfolder] = self._list(subfolder)
        files = self._files[subfolder]
        if base not in files:
            raise ClipinError(f"{where}: no image {name} in {self._folder}")
        prefix = f"{subfolder}/" if subfolder else ""
        return storage.join(self._folder, prefix + files[base])

    def _list(self, subfolder: str) -> dict[str, str]:
        path = storage.join(self._folder, subfolder) if subfolder else self._folder
        listing = list_folder(path) or Listing([], [])
        by_stem = {os.path.splitext(file)[0]: file for file in listing.files}
        return by_stem | {file: file for file in listing.files}


def _sugarcrepe(folder: str, find: _ImageFinder) -> list[Trial]:
    listing = list_folder(folder) or Listing([], [])
    names = [name for name in listing.files if name.endswith(".json")]
    if not names:
        raise ClipinError(f"{folder} has no JSON file, one for each part of SugarCrepe")
    trials = []
    for name in names:
        path = storage.join(folder, name)
        entries = _json(read_text(path), path)
        if not isinstance(entries, dict) or not entries:
            raise ClipinError(f"{path} has no JSON object with an entry per image")
        for key, entry in entries.items():
            where = f"{path}, entry {key!r}"
            image, *texts = _strings(
                entry, ("filename", "caption", "negative_caption"), where
            )
            group = name.removesuffix(".json")
            trials.append(Trial(group, (find(image, where),), (texts[0], texts[1])))
    return trials


def _winoground(folder: str, find: _ImageFinder) -> list[Trial]:
    path = storage.join(folder, "examples.jsonl")
    keys = ("image_0", "image_1", "caption_0", "caption_1")
    trials = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        first, second, *texts = _strings(_json(line, where), keys, where)
        images = find(first, where), find(second, where)
        trials.append(Trial("", images, (texts[0], texts[1])))
    return trials


def _mmvp(folder: str, find: _ImageFinder) -> list[Trial]:
    path = storage.join(folder, "Questions.csv")
    questions = {}
    for number, pattern, text in read_columns(
        path, ("Question ID", "Type", "Statement")
    ):
        if not number.isdecimal() or int(number) in questions:
            raise ClipinError(
                f"{path}: Question ID {number!r} is no number, or comes twice"
            )
        questions[int(number)] = pattern, text
    trials = []
    for number, (pattern, _) in questions.items():
        if number % 2 == 0:
            continue
        pair = [number, number + 1]
        if pair[1] not in questions:
            break
        images = tuple(find(f"{pattern}/{n}", f"{path}, question {n}") for n in pair)
        first, second = (MMVP_PREFIX + questions[n][1] for n in pair)
        trials.append(Trial(pattern, images, (first, second)))
    if 2 * len(trials) != len(questions):
        raise ClipinError(
            f"{path}: a question has no partner; they are pairs, 1 with 2, 3 with 4"
        )
    return trials


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ClipinError(f"{where} is not valid JSON: {error}") from error


def _strings(entry: Any, keys: Sequence[str], where: str) -> list[str]:
    """Returns the strings of some keys, none of them empty."""
    for key in keys:
        value = entry.get(key) if isinstance(entry, dict) else None
        if not isinstance(value, str) or not value.strip():
            raise ClipinError(f"{where} has no valid {key!r}")
    return [entry[key].strip() for key in keys]


# layout -> (folder of the images inside the folder, function that reads the trials)
LAYOUTS: dict[str, tuple[str, Callable[[str, _ImageFinder], list[Trial]]]] = {
    "sugarcrepe": ("val2017", _sugarcrepe),
    "winoground": ("images", _winoground),
    "mmvp": ("MLLM_VLM Images", _mmvp),
}
