"""The embedded data set: images of shapes with captions, generated on demand.

Every record is a function of (seed, split, index): there is nothing to download, and
the data set may have any length. `data.scenes` draws, paints and describes scenes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from clipin_jax.data.scenes.content import (
    COLORS,
    HELD_OUT,
    SHAPES,
    SPLITS,
    Scene,
    draw_scene,
)
from clipin_jax.data.scenes.paint import masks, paint
from clipin_jax.data.scenes.text import (
    full_sentence,
    name_thing,
    partial_sentence,
    stock_sentence,
)
from clipin_jax.data.source import Annotations, Record, fingerprint
from clipin_jax.errors import ClipinError, check_choice

# Independent random streams of one record.
_STREAMS = {"content": 0, "pixels": 1}
_MOST = dict(length=1 << 40, captions=1000)


class Scenes:
    """Images of one to three objects with several captions each.

    Eight shapes in eight colours, three sizes and nine places, on plain or textured
    backgrounds. Captions name left and right, so train without mirroring
    (`data.augment.flip=0`).

    Args:
      split: "train", "val" or "test"; they never show the same kind of scene.
      length: number of records.
      size: height and width of the images, in pixels.
      objects: least and greatest number of objects.
      captions: number of captions per image.
      looseness: share of loosely aligned captions, like those of the web. Half of them
        belong to another image, half name only the colour or shape of one object.
      redundancy: share of images with a stock sentence, like most medical reports. It
        is the same for all images whose first object has that shape; at 1 there are 8
        different sentences.
      shift: share of images with backgrounds and renderings of a shifted domain, which
        the others never have.
      labels: None; or "shape" or "color": images have one object, and `label` and
        `classes` are its shape or colour.
      seed: different seeds give different data sets.

    Attributes:
      held_out: the (shape, color) pairs that never appear in the training split.
    """

    held_out = HELD_OUT

    def __init__(
        self,
        split: str = "train",
        length: int = 10_000,
        size: int = 64,
        objects: tuple[int, int] = (1, 3),
        captions: int = 5,
        looseness: float = 0.0,
        redundancy: float = 0.0,
        shift: float = 0.0,
        labels: str | None = None,
        seed: int = 0,
    ):
        check_choice("scenes.split", split, SPLITS)
        check_choice("scenes.labels", labels, (None, "shape", "color"))
        shares = dict(looseness=looseness, redundancy=redundancy, shift=shift)
        counts = dict(length=length, captions=captions)
        _check(counts, shares, size=size, objects=objects, seed=seed)
        self._split, self._length, self._size = split, length, size
        low, high = objects
        self._objects = (1, 1) if labels else (low, high)
        self._captions, self._shares = captions, shares
        self._labels, self._seed = labels, seed
        self.classes = {None: (), "shape": SHAPES, "color": COLORS}[labels]
        self.fingerprint = fingerprint(
            "scenes 2", split, length, size, objects, captions, shares, labels, seed
        )

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Record:
        """Returns a record; image: [size, size, 3] uint8."""
        scene, annotations = self._content(index)
        image = paint(scene, self._size, self._rng(index, "pixels"))
        return {"image": image, **annotations}

    def annotations(self, index: int) -> Annotations:
        """Returns captions and label of a record without painting it."""
        return self._content(index)[1]

    def _content(self, index: int) -> tuple[Scene, Annotations]:
        rng = self._rng(index, "content")
        scene = self._draw(rng)
        if rng.random() < self._shares["redundancy"]:
            captions = (stock_sentence(scene),) * self._captions
        else:
            captions = tuple(self._caption(scene, rng) for _ in range(self._captions))
        if self._labels is None:
            return scene, {"captions": captions}
        name = getattr(scene.things[0], self._labels)
        label = self.classes.index(name)
        return scene, {"captions": captions, "label": label}

    def describe(self, index: int) -> str:
        """Returns the number and split of a record."""
        return f"scene {index} of {self._split}"

    def scene(self, index: int) -> Scene:
        """Returns the content of an image."""
        return self._draw(self._rng(index, "content"))

    def masks(self, index: int) -> np.ndarray:
        """Returns the visible pixels of each object: [objects, size, size] bool."""
        return masks(self.scene(index), self._size, self._rng(index, "pixels"))

    def names(self, index: int) -> tuple[str, ...]:
        """Returns names of the objects, as "a red star", in the order of `masks`."""
        return tuple(name_thing(thing) for thing in self.scene(index).things)

    def _rng(self, index: int, stream: str) -> np.random.Generator:
        if not 0 <= index < self._length:
            raise IndexError(f"scene {index} of {self._length}")
        split = SPLITS.index(self._split)
        return np.random.default_rng((self._seed, split, _STREAMS[stream], index))

    def _draw(self, rng: np.random.Generator) -> Scene:
        return draw_scene(
            rng, split=self._split, objects=self._objects, shift=self._shares["shift"]
        )

    def _caption(self, scene: Scene, rng: np.random.Generator) -> str:
        if rng.random() >= self._shares["looseness"]:
            return full_sentence(scene, rng)
        if rng.random() < 0.5:
            return partial_sentence(scene, rng)
        return full_sentence(self._draw(rng), rng)


def _check(
    counts: Mapping[str, int],
    shares: Mapping[str, float],
    *,
    size: int,
    objects: tuple[int, int],
    seed: int,
) -> None:
    for name, value in counts.items():
        if not 1 <= value <= _MOST[name]:
            raise ClipinError(
                f"scenes.{name} is {value}; it must be from 1 to {_MOST[name]:,}"
            )
    if not 16 <= size <= 1024:
        raise ClipinError(f"scenes.size is {size}; it must be from 16 to 1024 pixels")
    low, high = objects
    if not 1 <= low <= high <= 3:
        raise ClipinError(
            f"scenes.objects is {tuple(objects)}; it must be (least, greatest) number "
            "of objects, from 1 to 3"
        )
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ClipinError(f"scenes.{name} is {value}; it must be from 0 to 1")
    if seed < 0:
        raise ClipinError(f"scenes.seed is {seed}; it must not be negative")
