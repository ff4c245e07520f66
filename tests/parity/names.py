"""The product's tables of names, for the arrays of golden files.

Momentum copies have the paths of what they are copies of.
"""

import re

import numpy as np

from clipin_jax.interop.table import Table
from clipin_jax.interop.tables import bert, huggingface_siglip, open_clip

CLIP = open_clip.clip_table()
CLIP_RESNET = open_clip.resnet_table()
COCA = open_clip.coca_table()
CLIPIN = open_clip.clipin_table()
SIGLIP = huggingface_siglip.siglip_table()
BLIP = bert.blip_table()
BLIP_RETRIEVAL = bert.blip_retrieval_table()

_MOMENTUM = re.compile(
    r"^(visual|TextEncoder|visual_encoder|text_encoder|vision_proj|text_proj\w*?)_m\b"
)


def albef_table(sizes: dict) -> Table:
    """Returns the table for the sizes of a golden file."""
    return bert.albef_table(sizes["fusion_layer"], sizes["t_layers"])


def to_tree(table: Table, arrays: dict[str, np.ndarray]) -> dict:
    """Returns arrays of a file as a nested dict in our layout."""
    renamed = {without_momentum(name): value for name, value in arrays.items()}
    return table.to_tree(renamed)


def paths_of(table: Table, name: str) -> tuple[str, ...]:
    """Returns our paths of a name."""
    place = table.place_named(name)
    assert place, name
    return place.paths


def is_momentum(name: str) -> bool:
    """Tells whether a name is that of a momentum copy."""
    return bool(_MOMENTUM.match(name))


def without_momentum(name: str) -> str:
    """Returns the name without the mark of a momentum copy."""
    return _MOMENTUM.sub(r"\1", name)
