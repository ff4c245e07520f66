"""Where records come from: name -> source. `pipeline` makes batches of them."""

from __future__ import annotations

import inspect

from clipin_jax.data.coco import Coco
from clipin_jax.data.scenes import Scenes
from clipin_jax.data.source import Source, check_choice
from clipin_jax.data.tfds import Tfds
from clipin_jax.errors import ClipinError

SOURCES = {
    "scenes": Scenes,  # rendered on demand, nothing to download
    "coco": Coco,  # COCO captions JSON and a folder of images
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
