"""A folder of data sets for evaluation, each known by where it lies and what it holds.

    FOLDER/captions/NAME/         pictures with captions, perhaps with classes
    FOLDER/classification/NAME/   a folder per split and class
    FOLDER/npz/NAME.npz           arrays, as MedMNIST has them
    FOLDER/VOCdevkit/VOC2007/     PASCAL VOC
    FOLDER/text/NAME_test.tsv     texts with a label, or pairs of them with a score
    FOLDER/compositionality/      sugarcrepe, winoground and mmvp, as published

Scores are taken on the split `test`, or on `val` where there is no such split. Prompts
of a set come from FOLDER/classnames.json and FOLDER/templates.json, in CLIP_benchmark's
layout, or from the package where it knows the name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from clipin_jax.config import SCENE_TEMPLATES
from clipin_jax.data import storage
from clipin_jax.data.class_names import known_datasets
from clipin_jax.data.formats.folders import Listing, list_folder
from clipin_jax.data.formats.json_file import read_json
from clipin_jax.errors import ClipinError, check_choice

SPLITS = ("test", "val")  # what is scored: the first that is there
PLAIN_PROMPTS = ("a photo of a {}.",)
CLASSES = (
    "classification/NAME, npz/NAME.npz, VOCdevkit/NAME, captions/NAME with classes"
)
# kind of data -> in which layouts it is looked for; "tuned" has a val split too, if any
KINDS = {
    "pairs": "captions/NAME",
    "classes": CLASSES,
    "splits": f"{CLASSES}, with a train split",
    "tuned": f"{CLASSES}, with a train split",
    "similar_texts": "text/NAME_val.tsv with columns sentence1, sentence2, score",
    "labelled_texts": "text/NAME_train.tsv and NAME_val.tsv with columns text, label",
    "compositions": "compositionality/sugarcrepe, winoground or mmvp",
    "masks": "embedded scenes alone know where things are",
}
COMPOSITIONS = ("sugarcrepe", "winoground", "mmvp")
UNNAMED = (
    "its classes have numbers, no names: say them in classnames.json, or call the file "
    "as a set that the package knows"
)
NOTHING = Listing([], [])
# Kind, name and the arguments of an evaluator, or why there are none.
Found = Iterator[tuple[str, str, dict[str, Any] | str]]


class DataFolder:
    """What a suite evaluates on: the data sets in a folder, by kind and name.

    Args:
      folder: by path or URL; "": none.
      scenes: arguments of the source `scenes`; None: leave the embedded data out.

    Raises:
      ClipinError: no such folder, or no data set in it.
    """

    def __init__(self, folder: str, scenes: Mapping[str, Any] | None = None) -> None:
        self._folder = folder
        self._sets: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
        if scenes is not None:
            self._add(_scenes(scenes))
        if not folder:
            return
        if list_folder(folder) is None:
            raise ClipinError(f"there is no folder {folder}; set --data")
        prompts, before = Prompts(folder), self._count()
        for find in (_captions, _classification, _arrays, _voc):
            self._add(find(folder, prompts))
        self._add(_texts(folder))
        self._add(_compositions(folder))
        if self._count() == before:
            layouts = "; ".join(KINDS.values())
            raise ClipinError(f"{folder} has no data set in a known layout: {layouts}")

    def _add(self, found: Found) -> None:
        for kind, name, arguments in found:
            self._sets[kind][name] = arguments

    def _count(self) -> int:
        return sum(map(len, self._sets.values()))

    def over(
        self, kind: str, *names: str, **protocols: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Entries of `config.evals`, called "NAME:PROTOCOL".

        What is not there is a text that says so instead of an entry.

        Args:
          kind: a key of `KINDS`; it decides which arguments a set adds to an entry.
          names: of the sets; none: all that are there.
          protocols: name to entry.
        """
        check_choice("the kind of data", kind, tuple(KINDS))
        sets = self._sets[kind]
        where = f"not in {self._folder}" if self._folder else "needs --data FOLDER"
        if not sets and not names:
            return dict.fromkeys(protocols, f"{where}: {KINDS[kind]}")
        known = {_plain(name): name for name in sets}
        evals: dict[str, Any] = {}
        for wanted in names or sets:
            name = known.get(_plain(wanted), wanted)
            found = sets.get(name, f"{where}: {KINDS[kind]}")
            for protocol, entry in protocols.items():
                there = found if isinstance(found, str) else {**found, **entry}
                evals[f"{name}:{protocol}"] = there
        return evals

    def names(self, kind: str) -> tuple[str, ...]:
        """The sets of a kind that are there."""
        return tuple(self._sets[kind])


class Prompts:
    """The arguments of zero-shot classification that name the classes of a set."""

    def __init__(self, folder: str) -> None:
        self._paths = {
            "names_file": storage.join(folder, "classnames.json"),
            "templates_file": storage.join(folder, "templates.json"),
        }
        self._held = {
            key: list(read_json(path, "--data")[1]) if storage.exists(path) else []
            for key, path in self._paths.items()
        }

    def of(self, name: str) -> dict[str, Any]:
        """From the files in the folder, else from the package, else as plain as can be.

        Without names of their own, classes are called as the source calls them.
        """
        held = {key: self._paths[key] for key in self._held if name in self._held[key]}
        if held:
            return dict(held, dataset=name)
        known = known_name(name)
        return dict(dataset=known) if known else dict(templates=PLAIN_PROMPTS)


def known_name(name: str) -> str:
    """What the package calls a set of that name; "" where it knows none."""
    return {_plain(known): known for known in known_datasets()}.get(_plain(name), "")


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def _captions(root: str, prompts: Prompts) -> Found:
    for name, folder, there in _folders(root, "captions"):
        layout = "captions_{split}.json"
        splits = [x for x in SPLITS if layout.format(split=x) in there.files]
        if not splits:
            continue
        source = dict(name="coco", folder=folder, captions=layout, images="images")
        yield "pairs", name, dict(source=dict(source, split=splits[0]))
        labels = _labels(storage.join(folder, layout.format(split=splits[0])))
        if labels:
            source["labels"] = labels
            if layout.format(split="train") in there.files:
                splits.append("train")
            yield from _classes(name, source, splits, prompts.of(name))


def _labels(path: str) -> str:
    """How a captions file says classes, in words of the source `coco`; "": not."""
    try:
        _, data = read_json(path, "--data")
    except ClipinError:  # the source will say it better
        return ""
    rows = data.get("images")
    rows = rows if isinstance(rows, list) else []
    keys = {key for row in rows if isinstance(row, dict) for key in row}
    if data.get("categories") and "category_id" in keys:
        return "category"
    return "objects" if "objects" in keys else ""


def _classification(root: str, prompts: Prompts) -> Found:
    for name, folder, there in _folders(root, "classification"):
        words = "classes.json" if "classes.json" in there.files else ""
        source = dict(name="image_folder", folder=folder, names=words)
        yield from _classes(name, source, there.folders, prompts.of(name))


def _arrays(root: str, prompts: Prompts) -> Found:
    folder = storage.join(root, "npz")
    for file in (list_folder(folder) or NOTHING).files:
        name, _, ending = file.rpartition(".")
        if ending != "npz":
            continue
        source = dict(name="npz", file=storage.join(folder, file))
        known = known_name(name)
        there = _array_splits(source["file"])
        if known:
            source["classes"] = known
        # Of a damaged file the source says what is wrong.
        yield from _classes(name, source, there or SPLITS, prompts.of(name))
        if "dataset" not in prompts.of(name):
            yield "classes", name, UNNAMED


def _array_splits(path: str) -> Sequence[str]:
    try:
        with np.load(path) as arrays:
            return [name.removesuffix("_images") for name in arrays.files]
    except Exception:  # noqa: BLE001  whatever a damaged file raises, the source says
        return ()


def _voc(root: str, prompts: Prompts) -> Found:
    for name, folder, _ in _folders(root, "VOCdevkit"):
        lists = list_folder(storage.join(folder, "ImageSets/Main")) or NOTHING
        there = [file.removesuffix(".txt") for file in lists.files]
        # The classes of every year are those of 2007.
        named = prompts.of("voc2007")
        yield from _classes(name, dict(name="voc", folder=folder), there, named)


def _classes(
    name: str, source: dict[str, Any], splits: Sequence[str], prompts: dict[str, Any]
) -> Found:
    """What a labelled set serves for, by the splits that it has."""
    scored = next((split for split in SPLITS if split in splits), "")
    if not scored:
        return
    arguments = dict(source=dict(source, split=scored))
    yield "classes", name, arguments | prompts
    if "train" not in splits:
        return
    train = dict(train_source=dict(source, split="train"))
    val = dict(val_source=dict(source, split="val"))
    tunable = scored == "test" and "val" in splits
    yield "tuned", name, arguments | train | (val if tunable else {})
    if scored == "test" and "trainval" in splits:
        train = dict(train_source=dict(source, split="trainval"))
    yield "splits", name, arguments | train


def _texts(root: str) -> Found:
    folder = storage.join(root, "text")
    there = (list_folder(folder) or NOTHING).files
    for name in sorted({file.rpartition("_")[0] for file in there} - {""}):
        splits = [split for split in SPLITS if f"{name}_{split}.tsv" in there]
        if not splits:
            continue
        path = storage.join(folder, f"{name}_{splits[0]}.tsv")
        header = set(_header(path))
        if {"sentence1", "sentence2", "score"} <= header:
            yield "similar_texts", name, dict(file=path)
        if {"text", "label"} <= header and f"{name}_train.tsv" in there:
            train = storage.join(folder, f"{name}_train.tsv")
            yield "labelled_texts", name, dict(file=path, train_file=train)


def _compositions(root: str) -> Found:
    for name, folder, _ in _folders(root, "compositionality"):
        if name in COMPOSITIONS:
            yield "compositions", name, dict(format=name, folder=folder)


def _header(path: str) -> list[str]:
    content = storage.read_range(path, 0, 10_000).decode(errors="replace")
    return content.partition("\n")[0].rstrip("\r").split("\t")


def _folders(root: str, inside: str) -> Iterator[tuple[str, str, Listing]]:
    """Name, path and content of each folder inside one."""
    above = storage.join(root, inside)
    for name in (list_folder(above) or NOTHING).folders:
        folder = storage.join(above, name)
        yield name, folder, list_folder(folder) or NOTHING


def _scenes(arguments: Mapping[str, Any]) -> Found:
    """The embedded data: pairs, and two ways to sort pictures of one object."""
    source = dict(name="scenes", split="val", length=512, **arguments)
    yield "pairs", "scenes", dict(source=source)
    yield "masks", "scenes", dict(source=source)
    for labels, prompts in SCENE_TEMPLATES.items():
        scored = dict(source=dict(source, labels=labels))
        learnt = dict(train_source=dict(source, labels=labels, split="train"))
        yield "classes", f"scenes_{labels}", scored | dict(templates=prompts)
        for kind in ("splits", "tuned"):
            yield kind, f"scenes_{labels}", scored | learnt
