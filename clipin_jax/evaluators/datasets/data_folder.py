"""A folder of data sets for evaluation, recognized by their place in it.

    FOLDER/captions/NAME/         images with captions, optionally with classes
    FOLDER/classification/NAME/   a folder per split and class
    FOLDER/npz/NAME.npz           arrays in the layout of MedMNIST
    FOLDER/VOCdevkit/VOC2007/     PASCAL VOC
    FOLDER/text/NAME_test.tsv     texts with a label, or pairs of them with a score
    FOLDER/compositionality/      sugarcrepe, winoground and mmvp, as published

The split `test` is scored, or `val` if there is none. Prompts of a data set come from
FOLDER/classnames.json and FOLDER/templates.json, in CLIP_benchmark's layout, or from
the package if it has that data set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from clipin_jax import storage
from clipin_jax.config import SCENE_TEMPLATES
from clipin_jax.data.class_names import known_datasets
from clipin_jax.data.formats.folders import Listing, list_folder
from clipin_jax.data.formats.json_file import read_json
from clipin_jax.errors import ClipinError, check_choice

SPLITS = ("test", "val")  # the first that exists is scored
PLAIN_PROMPTS = ("a photo of a {}.",)
CLASSES = (
    "classification/NAME, npz/NAME.npz, VOCdevkit/NAME, captions/NAME with classes"
)
# kind of data -> layouts that have it; "tuned" also has the val split, if any
KINDS = {
    "pairs": "captions/NAME",
    "classes": CLASSES,
    "splits": f"{CLASSES}, with a train split",
    "tuned": f"{CLASSES}, with a train split",
    "similar_texts": "text/NAME_val.tsv with columns sentence1, sentence2, score",
    "labeled_texts": "text/NAME_train.tsv and NAME_val.tsv with columns text, label",
    "compositions": "compositionality/sugarcrepe, winoground or mmvp",
    "masks": "only the embedded scenes have masks",
}
COMPOSITIONS = ("sugarcrepe", "winoground", "mmvp")
UNNAMED = (
    "its classes have numbers, no names: write names to classnames.json, or rename the "
    "file to a data set that comes with the package"
)
EMPTY = Listing([], [])
# Kind, name, and the arguments of an evaluator, or the reason why there are none.
Datasets = Iterator[tuple[str, str, dict[str, Any] | str]]


class DataFolder:
    """The data sets of a folder, by kind and name, on which suites evaluate.

    Args:
      folder: by path or URL; "" for none.
      scenes: arguments of the source `scenes`; None to leave the embedded data out.

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
        prompts, embedded = Prompts(folder), self._count()
        for find in (_captions, _classification, _arrays, _voc):
            self._add(find(folder, prompts))
        self._add(_texts(folder))
        self._add(_compositions(folder))
        if self._count() == embedded:
            layouts = "; ".join(dict.fromkeys(KINDS.values()))
            raise ClipinError(f"{folder} has no data set in a known layout: {layouts}")

    def _add(self, datasets: Datasets) -> None:
        for kind, name, arguments in datasets:
            self._sets[kind][name] = arguments

    def _count(self) -> int:
        return sum(map(len, self._sets.values()))

    def over(
        self, kind: str, *names: str, **protocols: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Returns entries of `config.evals` with names "NAME:PROTOCOL".

        For a data set that does not exist, the reason stands in place of the entry.

        Args:
          kind: a key of `KINDS`; it decides which arguments a set adds to an entry.
          names: of the data sets; none for all of the kind.
          protocols: name to entry.
        """
        check_choice("the kind of data", kind, tuple(KINDS))
        sets = self._sets[kind]
        where = f"not in {self._folder}" if self._folder else "needs --data FOLDER"
        if not sets and not names:
            return dict.fromkeys(protocols, f"{where}: {KINDS[kind]}")
        exact_names = {_plain(name): name for name in sets}
        evals: dict[str, Any] = {}
        for given_name in names or sets:
            name = exact_names.get(_plain(given_name), given_name)
            data = sets.get(name, f"{where}: {KINDS[kind]}")
            for protocol, entry in protocols.items():
                merged = data if isinstance(data, str) else {**data, **entry}
                evals[f"{name}:{protocol}"] = merged
        return evals

    def names(self, kind: str) -> tuple[str, ...]:
        """Returns the data sets of a kind."""
        return tuple(self._sets[kind])


class Prompts:
    """Arguments of zero-shot classification that name the classes of a data set."""

    def __init__(self, folder: str) -> None:
        self._paths = {
            "names_file": storage.join(folder, "classnames.json"),
            "templates_file": storage.join(folder, "templates.json"),
        }
        self._datasets = {
            key: list(read_json(path, "--data")[1]) if storage.exists(path) else []
            for key, path in self._paths.items()
        }

    def of(self, name: str) -> dict[str, Any]:
        """Returns prompts from the folder's files, else the package, else plain ones.

        Plain prompts use the class names of the source.
        """
        files = {
            key: self._paths[key]
            for key, names in self._datasets.items()
            if name in names
        }
        if files:
            return dict(files, dataset=name)
        package_name = find_package_name(name)
        if package_name:
            return dict(dataset=package_name)
        return dict(templates=PLAIN_PROMPTS)


def find_package_name(name: str) -> str:
    """Returns the package's name of a data set; "" if the package does not know it."""
    return {_plain(known): known for known in known_datasets()}.get(_plain(name), "")


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def _captions(root: str, prompts: Prompts) -> Datasets:
    for name, folder, listing in _folders(root, "captions"):
        layout = "captions_{split}.json"
        splits = [x for x in SPLITS if layout.format(split=x) in listing.files]
        if not splits:
            continue
        source = dict(name="coco", folder=folder, captions=layout, images="images")
        yield "pairs", name, dict(source=dict(source, split=splits[0]))
        labels = _labels(storage.join(folder, layout.format(split=splits[0])))
        if labels:
            source["labels"] = labels
            if layout.format(split="train") in listing.files:
                splits.append("train")
            yield from _classes(name, source, splits, prompts.of(name))


def _labels(path: str) -> str:
    """Returns the argument `labels` of the source `coco` for a file, "" for none."""
    try:
        _, data = read_json(path, "--data")
    except ClipinError:  # the source raises a better message
        return ""
    rows = data.get("images")
    rows = rows if isinstance(rows, list) else []
    keys = {key for row in rows if isinstance(row, dict) for key in row}
    if data.get("categories") and "category_id" in keys:
        return "category"
    return "objects" if "objects" in keys else ""


def _classification(root: str, prompts: Prompts) -> Datasets:
    for name, folder, listing in _folders(root, "classification"):
        names = "classes.json" if "classes.json" in listing.files else ""
        source = dict(name="image_folder", folder=folder, names=names)
        yield from _classes(name, source, listing.folders, prompts.of(name))


def _arrays(root: str, prompts: Prompts) -> Datasets:
    folder = storage.join(root, "npz")
    for file in (list_folder(folder) or EMPTY).files:
        name, _, ending = file.rpartition(".")
        if ending != "npz":
            continue
        source = dict(name="npz", file=storage.join(folder, file))
        if package_name := find_package_name(name):
            source["classes"] = package_name
        # If the file is damaged, the source raises the error.
        splits = _array_splits(source["file"]) or SPLITS
        yield from _classes(name, source, splits, prompts.of(name))
        if "dataset" not in prompts.of(name):
            yield "classes", name, UNNAMED


def _array_splits(path: str) -> Sequence[str]:
    try:
        with np.load(path) as arrays:
            return [name.removesuffix("_images") for name in arrays.files]
    except Exception:  # noqa: BLE001  a damaged file raises anything
        return ()


def _voc(root: str, prompts: Prompts) -> Datasets:
    for name, folder, _ in _folders(root, "VOCdevkit"):
        lists = list_folder(storage.join(folder, "ImageSets/Main")) or EMPTY
        splits = [file.removesuffix(".txt") for file in lists.files]
        source = dict(name="voc", folder=folder)
        # The classes of every year are those of 2007.
        yield from _classes(name, source, splits, prompts.of("voc2007"))


def _classes(
    name: str, source: dict[str, Any], splits: Sequence[str], prompts: dict[str, Any]
) -> Datasets:
    """Yields a labeled data set as all kinds of data that its splits allow."""
    scored_split = next((split for split in SPLITS if split in splits), "")
    if not scored_split:
        return
    arguments = dict(source=dict(source, split=scored_split))
    yield "classes", name, arguments | prompts
    if "train" not in splits:
        return
    train = dict(train_source=dict(source, split="train"))
    val = dict(val_source=dict(source, split="val"))
    tunable = scored_split == "test" and "val" in splits
    yield "tuned", name, arguments | train | (val if tunable else {})
    if scored_split == "test" and "trainval" in splits:
        train = dict(train_source=dict(source, split="trainval"))
    yield "splits", name, arguments | train


def _texts(root: str) -> Datasets:
    folder = storage.join(root, "text")
    files = (list_folder(folder) or EMPTY).files
    for name in sorted({file.rpartition("_")[0] for file in files} - {""}):
        splits = [split for split in SPLITS if f"{name}_{split}.tsv" in files]
        if not splits:
            continue
        path = storage.join(folder, f"{name}_{splits[0]}.tsv")
        header = set(_header(path))
        if {"sentence1", "sentence2", "score"} <= header:
            yield "similar_texts", name, dict(file=path)
        if {"text", "label"} <= header and f"{name}_train.tsv" in files:
            train = storage.join(folder, f"{name}_train.tsv")
            yield "labeled_texts", name, dict(file=path, train_file=train)


def _compositions(root: str) -> Datasets:
    for name, folder, _ in _folders(root, "compositionality"):
        if name in COMPOSITIONS:
            yield "compositions", name, dict(format=name, folder=folder)


def _header(path: str) -> list[str]:
    content = storage.read_range(path, 0, 10_000).decode(errors="replace")
    return content.partition("\n")[0].rstrip("\r").split("\t")


def _folders(root: str, inside: str) -> Iterator[tuple[str, str, Listing]]:
    """Yields name, path and content of each subfolder of `inside`."""
    parent = storage.join(root, inside)
    for name in (list_folder(parent) or EMPTY).folders:
        folder = storage.join(parent, name)
        yield name, folder, list_folder(folder) or EMPTY


def _scenes(arguments: Mapping[str, Any]) -> Datasets:
    """Yields the embedded data: pairs, masks, and two ways to label one object."""
    source = dict(name="scenes", split="val", length=512, **arguments)
    yield "pairs", "scenes", dict(source=source)
    yield "masks", "scenes", dict(source=source)
    for labels, prompts in SCENE_TEMPLATES.items():
        scored = dict(source=dict(source, labels=labels))
        train = dict(train_source=dict(source, labels=labels, split="train"))
        yield "classes", f"scenes_{labels}", scored | dict(templates=prompts)
        for kind in ("splits", "tuned"):
            yield kind, f"scenes_{labels}", scored | train
