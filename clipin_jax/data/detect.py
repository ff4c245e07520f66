"""Finds out which source reads a folder or a file, from names and first records."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from clipin_jax import storage
from clipin_jax.data.compressed import plain_file, plain_name, unpack
from clipin_jax.data.formats.caption_values import likely_key
from clipin_jax.data.formats.columns import image_path
from clipin_jax.data.formats.file_patterns import find_files
from clipin_jax.data.formats.folders import Listing, list_folder, walk
from clipin_jax.data.formats.image_files import ENDINGS, count_kinds, ending
from clipin_jax.data.formats.tar_index import read_index
from clipin_jax.errors import ClipinError, did_you_mean

IMAGES = (
    "filepath", "image", "image_path", "imagepath", "img_path", "path", "file",
    "file_name", "filename", "image_file", "img", "photo", "picture",
)  # fmt: skip
CAPTIONS = (
    "title", "caption", "captions", "text", "sentence", "sentences", "description",
    "alt_text", "prompt", "report", "txt",
)  # fmt: skip

_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
_SOURCES = {
    **dict.fromkeys(_TABLES, "table"),
    ".tar": "webdataset", ".tgz": "webdataset", ".parquet": "parquet",
    ".array_record": "array_record", ".json": "json_list", ".npz": "npz",
}  # fmt: skip
_SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_MOST_WALKED = 2000  # files that are looked at to tell what a folder has
_HEAD = 1 << 16  # bytes of a table that are read for the names of its columns


def detect(path: str, split: str) -> tuple[dict[str, Any], bool]:
    """Returns the arguments of the source of a folder or a file.

    Args:
      path: of the folder or the file; or a pattern, see `file_patterns`.
      split: "train", "val", ..., or "" for all records.

    Returns:
      The arguments, and whether they are those of the split already; otherwise they
      are those of all records.

    Raises:
      ClipinError: the layout is none that is known.
    """
    listing = None if storage.is_pattern(path) else list_folder(path)
    if listing is not None:
        return _folder(storage.join(path, "").rstrip("/") or "/", listing, split)
    name = _source_of(path)
    if not name:
        raise ClipinError(
            f"{path} is neither a folder nor a file of pairs (with an ending such as "
            f"{', '.join(_SOURCES)}); set data.source, see docs/guides/formats.md"
        )
    evaluation = path if split == "" else _beside_training(path, split)
    if evaluation != path and split != "train":
        return _files(name, evaluation), True
    is_named = split != "train" and _is_of(path, split)
    return _files(name, path), is_named or evaluation != path


def _source_of(path: str) -> str:
    name = plain_name(path)
    return next((s for kind, s in _SOURCES.items() if name.endswith(kind)), "")


def _is_of(path: str, split: str) -> bool:
    """Tells whether the name of a file or folder has the name of a split as a word."""
    base = path.rstrip("/").rpartition("/")[2].lower()
    words = "|".join(map(re.escape, _SPLITS.get(split, (split,))))
    return bool(split and re.search(rf"(?<![a-z])({words})(?![a-z])", base))


def _beside_training(path: str, split: str) -> str:
    """Returns the file of evaluation beside one of training; else the path."""
    folder, slash, base = path.rpartition("/")
    for word in _SPLITS["val" if split == "train" else split]:
        swapped = re.sub(r"(?<![a-zA-Z])train(ing)?(?![a-zA-Z])", word, base)
        if swapped != base and storage.exists(folder + slash + swapped):
            return folder + slash + swapped
    return path


def _of_split(names: Sequence[str], split: str) -> tuple[list[str], bool]:
    """Returns the names of a split, and whether there are others of evaluation."""
    names = [name for name in names if not _is_of(name, "test")] or list(names)
    evaluation = [name for name in names if _is_of(name, "val")]
    if not split or not evaluation or len(evaluation) == len(names):
        return names, False
    if split == "train":
        return [name for name in names if name not in evaluation], True
    return evaluation, True


def _folder(folder: str, listing: Listing, split: str) -> tuple[dict[str, Any], bool]:
    files, folders = listing.files, [n for n in listing.folders if n[0] != "."]
    if known := _known_layout(folder, files, folders, split):
        return known, True
    of_splits = [
        n for n in folders if n.lower() in (*_SPLITS["train"], *_SPLITS["val"])
    ]
    if any(_is_of(name, "train") for name in of_splits):
        names, is_split = _of_split(of_splits, split)
        wanted = split if is_split else "train"
        chosen = storage.join(folder, next(n for n in names if _is_of(n, wanted)))
        inner = list_folder(chosen)
        assert inner is not None  # it has just been listed
        return _folder(chosen, inner, "")[0], is_split
    by_source: dict[str, list[str]] = {}
    for name in files:
        by_source.setdefault(_source_of(name), []).append(name)
    # A JSON file beside each image belongs to the image.
    for source in ("webdataset", "parquet", "array_record", "table"):
        if source in by_source:
            names, is_split = _of_split(by_source[source], split)
            return _files(source, [storage.join(folder, n) for n in names]), is_split
    return _images(folder, folders), False


def _known_layout(
    folder: str, files: Sequence[str], folders: Sequence[str], split: str
) -> dict[str, Any]:
    """Returns the arguments of a layout with fixed names; {} if there is none."""
    split_given, split = split, split or "train"
    if any(re.fullmatch(r"captions_.*\.json", name) for name in files):
        return dict(name="coco", folder=folder, split=split)
    karpathy = [n for n in files if re.fullmatch(r"dataset.*\.json", n)]
    if karpathy and "dataset_info.json" not in karpathy:
        images = "images" if "images" in folders else ""
        return dict(
            name="karpathy", folder=folder, file=karpathy[0], split=split, images=images
        )
    if {"JPEGImages", "ImageSets"} <= set(folders):
        listed = storage.join(folder, f"ImageSets/Main/{split}.txt")
        has_split = split_given and storage.exists(listed)
        return dict(name="voc", folder=folder, split=split if has_split else "trainval")
    if f"{split}_imgs.tsv" in files:
        return dict(name="muge", folder=folder, split=split)
    if "dataset_dict.json" in files:
        return dict(name="hf_datasets", folder=folder, split=split)
    if "state.json" in files and "dataset_info.json" in files:
        return dict(name="hf_datasets", folder=folder)
    if "features.json" in files and "dataset_info.json" in files:
        return dict(name="tfds", folder=folder, split=split)
    return {}


def _images(folder: str, folders: Sequence[str]) -> dict[str, Any]:
    """Returns the source of a folder of images. Raises ClipinError if it is none."""
    names = [name for name, _ in zip(walk(folder), range(_MOST_WALKED), strict=False)]
    images = [name for name in names if ending(name) in ENDINGS]
    stems = {name[: len(name) - len(ending(name))] for name in images} | set(images)
    texts = [name for name in names if name.rpartition(".")[0] in stems]
    for kind in (".txt", ".json"):
        beside = [name for name in texts if ending(name) == kind]
        if beside:
            captions = kind[1:]
            if kind == ".json":
                content = storage.read(storage.join(folder, beside[0]))
                captions = _key_in(content, captions)
            return dict(name="caption_files", folder=folder, captions=captions)
    if images and folders and all("/" in name for name in images):
        return dict(name="image_folder", folder=folder)
    kinds = count_kinds(names) or "no files"
    raise ClipinError(
        f"{folder} has no layout that is known, but {kinds}; set data.source, see "
        "docs/guides/formats.md"
    )


def _key_in(content: bytes, extension: str) -> str:
    """Returns how to name the caption in a JSON file of a sample."""
    try:
        values = json.loads(content)
    except ValueError:
        return extension
    key = likely_key(values) if isinstance(values, Mapping) else ""
    return f"{extension}:{key}" if key else extension


def _files(name: str, files: str | list[str]) -> dict[str, Any]:
    """Returns the arguments of a source of files, from the first of them."""
    if name == "npz":
        return dict(name=name, file=files)
    given = files[0] if isinstance(files, list) and len(files) == 1 else files
    arguments = dict(name=name, files=given)
    first = find_files(files, "data.source.files", ())[0]
    if name == "webdataset":
        return arguments | dict(captions=_captions_of_tar(first))
    if name == "array_record":
        return arguments
    arguments |= _guess_columns(_columns(first), first)
    if name == "parquet":
        return arguments
    return arguments | _guess_folder(first, str(arguments["image"]))


def _captions_of_tar(path: str) -> str:
    try:
        path = plain_file(path)
        index, _ = read_index(path)
    except OSError:
        return "txt"  # the source raises a better message
    counts = index.counts()
    if counts["txt"] or not counts["json"]:
        return "txt"
    offsets, sizes = index.column(("json",))
    row = int((sizes > 0).argmax())
    content = storage.read_range(path, int(offsets[row]), max(0, int(sizes[row])))
    return _key_in(content, "json")


def _columns(path: str) -> list[str]:
    """Returns the names of a file's columns or keys; none if they cannot be read."""
    if plain_name(path).endswith(".parquet"):
        from clipin_jax.data.sources.parquet import read_footer

        return list(read_footer(path).schema.names)
    return list(_first_row(path))


def _first_row(path: str) -> dict[str, Any]:
    """Returns the first row of a table or list; {} if it cannot be read."""
    name = plain_name(path)
    try:
        if name.endswith(".json"):
            rows = json.loads(unpack(storage.read(path), path))
            return dict(rows[0]) if isinstance(rows, list) and rows else {}
        head = storage.read_range(plain_file(path), 0, _HEAD)
        lines = head.decode("utf-8-sig", "replace").strip().splitlines()
        if name.endswith((".jsonl", ".ndjson")):
            return dict(json.loads(lines[0]))
        mark = max("\t,;|", key=lines[0].count)
        cells = [[c.strip(' "') for c in line.split(mark)] for line in lines[:2]]
        return dict(zip(cells[0], [*cells[-1], *cells[0]], strict=False))
    except (OSError, ValueError, TypeError, IndexError):
        return {}


def _guess_columns(columns: Sequence[str], path: str) -> dict[str, Any]:
    """Returns `image` and `captions` among the names of columns."""
    by_lower = {name.lower(): name for name in columns}
    chosen: dict[str, Any] = {}
    for argument, usual in (("image", IMAGES), ("captions", CAPTIONS)):
        names = [by_lower[name] for name in usual if name in by_lower]
        if names:
            chosen[argument] = names[0]
            continue
        numbered = re.compile(rf"({'|'.join(usual)})_?\d+")
        several = [name for low, name in by_lower.items() if numbered.fullmatch(low)]
        if argument == "captions" and several:
            chosen[argument] = several
            continue
        kind = "an image" if argument == "image" else "a caption"
        raise ClipinError(
            f"{path} has no column that is named like {kind}; name it in "
            f"data.source.{argument}: {did_you_mean(usual[0], columns)}"
        )
    return chosen


def _guess_folder(path: str, image: str) -> dict[str, str]:
    """Returns `folder` if the first image of a table lies in a folder beside it."""
    name, parent = str(_first_row(path).get(image, "")).strip(), storage.parent(path)
    if not name or storage.exists(image_path(name, parent)):
        return {}
    listing = list_folder(parent)
    for folder in listing.folders if listing else ():
        if storage.exists(image_path(name, storage.join(parent, folder))):
            return dict(folder=storage.join(parent, folder))
    return {}
