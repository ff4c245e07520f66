"""Draws the content of a scene: objects on a background.

The other modules of this folder paint a scene and describe it.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np

SPLITS = ("train", "val", "test")
SHAPES = (
    "circle",
    "ring",
    "square",
    "diamond",
    "triangle",
    "hexagon",
    "star",
    "cross",
)
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")

# Each colour and each shape is held out once, and occurs often in other pairs.
HELD_OUT = tuple(
    (shape, COLORS[(3 * number + 1) % 8]) for number, shape in enumerate(SHAPES)
)
_TRAINED = tuple(
    (shape, color)
    for shape in SHAPES
    for color in COLORS
    if (shape, color) not in HELD_OUT
)
_EVERY = _TRAINED + HELD_OUT
_TINTS = 10  # background number = 10 * texture + tint; texture 0 is plain
_TEXTURES = 4
# Objects and background together determine one of ten buckets. Each split has its own
# buckets, so that no two splits show the same kind of scene, however long they are.
_BUCKETS = {"train": range(8), "val": range(8, 9), "test": range(9, 10)}


class Thing(NamedTuple):
    """One object: names of shape and colour, size 0 to 2, cell of a 3 x 3 grid."""

    shape: str
    color: str
    size: int
    cell: int


class Scene(NamedTuple):
    """The content of an image.

    things: 1 to 3 objects in different cells.
    background: its number.
    shifted: whether background and rendering are those of a shifted domain, see
      `shift` of `Scenes`.
    """

    things: tuple[Thing, ...]
    background: int
    shifted: bool

    @property
    def texture(self) -> int:
        """The number of the background's texture; 0 is plain."""
        return self.background // _TINTS

    @property
    def tint(self) -> int:
        """The number of the background's tint, 0 to 9."""
        return self.background % _TINTS

    @property
    def is_plain(self) -> bool:
        """Tells whether the background has no texture."""
        return self.texture == 0 and not self.shifted


def draw_scene(
    rng: np.random.Generator, *, split: str, objects: tuple[int, int], shift: float
) -> Scene:
    """Draws a scene.

    Args:
      rng: advanced by the draws.
      split: one of `SPLITS`; "train" has no pair of `HELD_OUT`.
      objects: least and greatest number of objects.
      shift: probability of a shifted scene.
    """
    low, high = objects
    count = int(rng.integers(low, high + 1))
    pairs = _TRAINED if split == "train" else _EVERY
    looks = rng.permutation(len(pairs))[:count]
    cells = rng.permutation(9)[:count]
    sizes = rng.integers(3, size=count)
    things = tuple(
        Thing(pairs[look][0], pairs[look][1], int(size), int(cell))
        for look, size, cell in zip(looks, sizes, cells, strict=True)
    )
    buckets = _BUCKETS[split]
    bucket = buckets[int(rng.integers(len(buckets)))]
    texture = int(rng.integers(_TEXTURES))
    background = texture * _TINTS + (bucket - _hash(things)) % _TINTS
    return Scene(things, background, bool(rng.random() < shift))


def content_id(scene: Scene) -> tuple:
    """Returns the kind of a scene, regardless of the order of its objects."""
    return tuple(sorted(scene.things)), scene.background


def _hash(things: tuple[Thing, ...]) -> int:
    # The repr of a NamedTuple contains its class name: `Thing` must not be renamed.
    return zlib.crc32(repr(sorted(things)).encode())
