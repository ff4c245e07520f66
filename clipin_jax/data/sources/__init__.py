"""Where records come from: name -> source."""

from __future__ import annotations

import inspect

from clipin_jax.data.source import Source, check_choice
from clipin_jax.data.sources.array_record import ArrayRecord
from clipin_jax.data.sources.coco import Coco
from clipin_jax.data.sources.hf_datasets import HfDatasets
from clipin_jax.data.sources.image_folder import ImageFolder
from clipin_jax.data.sources.json_list import JsonList
from clipin_jax.data.sources.karpathy import Karpathy
from clipin_jax.data.sources.mixture import Mixture
from clipin_jax.data.sources.muge import Muge
from clipin_jax.data.sources.npz import Npz
from clipin_jax.data.sources.parquet import Parquet
from clipin_jax.data.sources.scenes import Scenes
from clipin_jax.data.sources.table import Table
from clipin_jax.data.sources.tfds import Tfds
from clipin_jax.data.sources.voc import Voc
from clipin_jax.data.sources.webdataset import WebDataset
from clipin_jax.errors import ClipinError

SOURCES = {
    "scenes": Scenes,  # rendered on demand, nothing to download
    "mixture": Mixture,  # several of the others, by weight
    "coco": Coco,  # COCO captions JSON and a folder of images
    "karpathy": Karpathy,  # the same images in Karpathy's splits
    "json_list": JsonList,  # lists of images and captions, as ALBEF and BLIP take
    "muge": Muge,  # a table of base64 and texts, as Chinese-CLIP takes
    "image_folder": ImageFolder,  # a folder per class, captions from templates
    "npz": Npz,  # arrays of pictures and labels, as MedMNIST has
    "voc": Voc,  # PASCAL VOC's folders, several classes a picture
    "webdataset": WebDataset,  # tars of pictures and texts
    "array_record": ArrayRecord,  # what `clipin data convert` makes
    "hf_datasets": HfDatasets,  # what `datasets` saved to a folder
    "parquet": Parquet,  # pictures and texts in Parquet files
    "table": Table,  # CSV, TSV or JSON lines that name pictures
    "tfds": Tfds,  # a prepared tensorflow-datasets folder
}


def make_source(*, name: str, **cfg) -> Source:
    """The source of that name, built from its own arguments.

    Raises:
      ClipinError: no such source, an argument that it does not have, or data that is
        missing or malformed.
    """
    check_choice("source.name", name, tuple(SOURCES))
    arguments = tuple(inspect.signature(SOURCES[name]).parameters)
    for key in cfg:
        check_choice(f"an argument of source {name!r}", key, arguments)
    try:
        return SOURCES[name](**cfg)
    # An argument that is missing, or of another type than its values can be.
    except TypeError as error:
        raise ClipinError(f"source {name!r}: {error}") from error
