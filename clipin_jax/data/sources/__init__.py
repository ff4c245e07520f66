"""The sources of training and evaluation data, by short name."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from clipin_jax import registry
from clipin_jax.data.detect import detect
from clipin_jax.data.held_out import HeldOut
from clipin_jax.data.mismatched import Mismatched
from clipin_jax.data.mixture import Mixture, check_weights
from clipin_jax.data.source import Source
from clipin_jax.data.sources.array_record import ArrayRecord
from clipin_jax.data.sources.caption_files import CaptionFiles
from clipin_jax.data.sources.coco import Coco
from clipin_jax.data.sources.hf_datasets import HfDatasets
from clipin_jax.data.sources.image_folder import ImageFolder
from clipin_jax.data.sources.json_list import JsonList
from clipin_jax.data.sources.karpathy import Karpathy
from clipin_jax.data.sources.muge import Muge
from clipin_jax.data.sources.npz import Npz
from clipin_jax.data.sources.parquet import Parquet
from clipin_jax.data.sources.scenes import Scenes
from clipin_jax.data.sources.table import Table
from clipin_jax.data.sources.tfds import Tfds
from clipin_jax.data.sources.voc import Voc
from clipin_jax.data.sources.webdataset import WebDataset
from clipin_jax.errors import explained

_log = logging.getLogger(__name__)
_told: set[tuple[str, str, str]] = set()  # path, and what `auto` took it for


def mixture(sources: Mapping[str, Mapping[str, Any]]) -> Mixture:
    """Builds a mixture of several sources, see `Mixture`.

    Args:
      sources: name -> the arguments of a source, with `weight` among them.

    Raises:
      ClipinError: see `check_weights` and the sources.
    """
    parts = {name: dict(arguments) for name, arguments in sources.items()}
    weights = {name: arguments.pop("weight", None) for name, arguments in parts.items()}
    check_weights(weights)
    return Mixture(
        {name: make_source(**arguments) for name, arguments in parts.items()}, weights
    )


def mismatched(source: Mapping[str, Any], share: float, seed: int = 0) -> Mismatched:
    """Builds a source in which images have captions of others, see `Mismatched`.

    Args:
      source: the arguments of a source.
      share: of mismatched images, from 0 to 1.
      seed: of the choice.

    Raises:
      ClipinError: see `Mismatched` and the source.
    """
    return Mismatched(make_source(**source), share, seed)


def auto(path: str, split: str = "", labels: str | None = None) -> Source:
    """Builds the source that the layout of a folder or file suggests, see `detect`.

    It warns once of what it took the data for, with what to write to be sure: the
    splits of a run are built one by one.

    Args:
      path: of the folder or the file; or a pattern, as for `files` of other sources.
      split: "train", "val", or "" for all records. Without files or folders of that
        name, one record in twenty, at most a thousand, is held out as "val".
      labels: None; or the column of the class, or `labels` of `coco`.

    Raises:
      ClipinError: the layout is none that is known; and see the source.
    """
    arguments, is_split = detect(path, split)
    if labels:
        arguments["labels" if arguments["name"] == "coco" else "label"] = labels
    source = make_source(**arguments)
    part = rest = ""
    if split and not is_split:
        total = len(source)
        source = HeldOut(source, training=split == "train")
        held_out = total - len(source) if split == "train" else len(source)
        part = f", of which 'val' has {held_out} records"
        rest = f"; this reads all {total}: give evaluations data of their own"
    written = shlex.quote(json.dumps(arguments, ensure_ascii=False))
    is_told = (found := (path, arguments["name"], part)) in _told
    _told.add(found)
    _log.log(
        logging.INFO if is_told else logging.WARNING,
        "%s: taken for source %r%s; to be sure, write data.source=%s%s",
        path,
        arguments["name"],
        part,
        written,
        rest,
    )
    return source


SOURCES: dict[str, Callable[..., Source]] = {
    "auto": auto,  # one of the others, by the layout of a folder or file
    "scenes": Scenes,  # rendered on demand, nothing to download
    "mixture": mixture,  # several of the others, by weight
    "mismatched": mismatched,  # one of the others, with captions of other images
    "coco": Coco,  # COCO captions JSON and a folder of images
    "karpathy": Karpathy,  # the same images in Karpathy's splits
    "json_list": JsonList,  # lists of images and captions, as for ALBEF and BLIP
    "muge": Muge,  # a table of base64 and texts, as for Chinese-CLIP
    "caption_files": CaptionFiles,  # a folder of images, a text file beside each
    "image_folder": ImageFolder,  # a folder per class, captions from templates
    "npz": Npz,  # arrays of images and labels, as in MedMNIST
    "voc": Voc,  # PASCAL VOC's folders, several classes per image
    "webdataset": WebDataset,  # tars of images and texts
    "array_record": ArrayRecord,  # written by `clipin data convert`
    "hf_datasets": HfDatasets,  # saved by the library `datasets`
    "parquet": Parquet,  # images and texts in Parquet files
    "table": Table,  # CSV, TSV or JSON lines that name images
    "tfds": Tfds,  # a prepared tensorflow-datasets folder
}


_MEMBERS = (
    "classes", "fingerprint", "__len__", "__getitem__", "annotations", "describe",
)  # fmt: skip


def is_source(argument: str) -> bool:
    """Whether an argument of this name is a source, built from its own dict."""
    return argument == "source" or argument.endswith("_source")


def make_source(*, name: str = "", **arguments: Any) -> Source:
    """Builds a source.

    Args:
      name: of `SOURCES`, or "package.module:Class" for a class of another package.
      **arguments: of that class.

    Raises:
      ClipinError: no such source, an argument that it does not have, or data that is
        missing or malformed.
    """
    source_class = registry.find(SOURCES, name, "source.name")
    registry.check_arguments(source_class, arguments, "source")
    source = registry.construct(source_class, f"source {name!r}", **arguments)
    registry.check_members(source, _MEMBERS, "source.name", "clipin_jax/data/source.py")
    with explained(f"source {name!r}"):
        len(source)
    return source
