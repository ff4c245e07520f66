"""Names of the classes of well-known data sets, and prompts for them.

The data sets have the names of CLIP_benchmark. Classes are in the order of the labels
in the data set's own files, or as torchvision reads them: CIFAR-100's names are sorted,
SUN397 has 397 different ones, Pets and VOC are in their official order. OpenAI's lists
for CLIP have another order in places (`eurosat`, `pets`, `sun397`, `voc2007`).

Some data sets exist in several orders:
  caltech101          101 classes, in the order of torchvision
  caltech101_folders  102, with "background", in the order of sorted folders
  caltech101_vtab     102, in the order of tensorflow-datasets
  fer2013             in the order of its CSV file
  fer2013_folders     in the order of sorted folders, named by emotion
The classes of `clevr_count_all`, `dmlab` and `kitti_closest_vehicle_distance` are those
of VTAB.

The sources of names and prompts, and the changes to them, are listed in
`class_names.LICENSE` beside this file.
"""

from __future__ import annotations

import functools
import gzip
import importlib.resources
import json

from clipin_jax.errors import check_choice

_FILE = "class_names.json.gz"


def class_names(dataset: str) -> tuple[str, ...]:
    """Returns the names of a data set's classes for prompts, in label order.

    Raises:
      ClipinError: no such data set, with the nearest name.
    """
    return _entry(dataset, "classes")


def templates(dataset: str) -> tuple[str, ...]:
    """Returns the prompts of a data set; "{}" is replaced by the name of the class.

    Raises:
      ClipinError: no such data set, with the nearest name.
    """
    return _entry(dataset, "templates")


def known_datasets() -> tuple[str, ...]:
    """Returns the data sets that have names and prompts, sorted."""
    return tuple(sorted(_read()))


def _entry(dataset: str, key: str) -> tuple[str, ...]:
    check_choice("the data set", dataset, known_datasets())
    return tuple(_read()[dataset][key])


@functools.cache
def _read() -> dict[str, dict[str, list[str]]]:
    packed = importlib.resources.files("clipin_jax.data").joinpath(_FILE)
    return json.loads(gzip.decompress(packed.read_bytes()))
