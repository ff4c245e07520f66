"""Localization: compares maps of a model with masks or boxes of what a text names.

Sources: the pointing game of Zhang et al. 2016, arXiv 1608.00507, section 4.2, without
its margin of 15 pixels; energy inside the object of Wang et al. 2020 (Score-CAM), arXiv
1910.01279, section 4.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from clipin_jax.data.image.decode import decode
from clipin_jax.data.source import Annotations, Record, Source
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.base import Figure
from clipin_jax.evaluators.datasets.annotations import read_annotations
from clipin_jax.inference.encode_fns import ModelState
from clipin_jax.inference.encoder import Encoder
from clipin_jax.inference.saliency import enlarge

METRICS = (
    "energy", "pointing_game", "contrast", "named_object", "others/pointing_game",
    "empty",
)  # fmt: skip
NEED_OTHERS = ("named_object", "others/pointing_game")  # other objects in the image


class Localization:
    """Energy inside the object, pointing game and contrast of maps of texts.

    The source has methods `names(index)`, the texts of the objects in an image, and
    `masks(index)`, [objects, H, W] bool, as `scenes` does. Or it has annotations
    `boxes`: (text, left, top, width, height) per object, in pixels. Each text is
    explained in its image. The map is enlarged to the size of the mask and compared
    with it.
    """

    task = "localization"
    figures = {
        "energy": Figure("{:.1%}", headline=True),
        "pointing_game": Figure("{:.1%}", headline=True),
        "contrast": Figure("{:.3f}"),
        "named_object": Figure("{:.1%}"),
        "others/pointing_game": Figure("{:.1%}", better="lower"),
    }
    benchmark_keys = {"energy": "energy", "pointing_game": "pointing_game"}

    def __init__(
        self,
        encoder: Encoder,
        *,
        source: Source,
        batch_size: int = 64,
        method: str = "contrastive",
        layer: int | None = None,
        template: str = "{}",
    ) -> None:
        """Reads all objects.

        Args:
          encoder: of the model.
          source: images with objects.
          batch_size: texts explained at a time.
          method: what is explained, as `--method` of `clipin explain`.
          layer: of that method, from 0, or -1 from the end; None for its usual one.
          template: the text, with "{}" for the name of the object.

        Raises:
          ClipinError: a source without masks and boxes, an object outside its image, a
            template without "{}", or a method that the model does not offer.
        """
        if "{}" not in template:
            raise ClipinError(
                f"localization: the template {template!r} has no {{}}, the place for "
                "the name of the object"
            )
        self._objects = _Objects(source)
        self.source, self._batch_size = source, batch_size
        self._texts = [template.replace("{}", name) for name in self._objects.names]
        self._explain = encoder.explainer(method, layer)

    def run(self, state: ModelState) -> Iterator[tuple[str, float]]:
        """Yields (metric, value); "chance/METRIC" is that of a random map.

        energy: share of the map's sum inside the mask.
        pointing_game: share of maps whose maximum is inside the mask only.
        contrast: (i - o) / (i + o) of the means inside and outside, from -1 to 1.
        named_object: share of maps whose mean is greater on the named object than on
          every other, in images with several objects. A map of salient objects that
          ignores the text raises all metrics but this one.
        others/pointing_game: share of maps whose maximum is inside another object.
        empty: share of maps that are 0 everywhere, or not finite; they get the worst
          value of every metric.
        objects_left_out: number of objects that cover all of their image, where no
          map can be wrong.
        """
        maps = self._explain(state, self._objects, self._texts, self._batch_size)
        rows, areas, num_objects = [], [], []
        for index, patches in enumerate(maps["caption"]):
            masks, named = self._objects.masks(index)
            rows.append(score_map(patches, masks, named))
            areas.append(masks[named].mean())
            num_objects.append(len(masks))
        several = np.asarray(num_objects) > 1
        for name, column in zip(METRICS, np.transpose(rows), strict=True):
            if name not in NEED_OTHERS:
                yield name, float(column.mean())
            elif several.any():
                yield name, float(column[several].mean())
        if several.any():
            chance = float(np.mean(1 / np.asarray(num_objects)[several]))
            yield "chance/named_object", chance
        yield "chance/energy", float(np.mean(areas))
        yield "chance/pointing_game", float(np.mean(areas))
        yield "chance/contrast", 0.0
        yield "objects_left_out", float(self._objects.left_out)


def score_map(patches: np.ndarray, masks: np.ndarray, named: int) -> tuple[float, ...]:
    """Scores one map against the objects of its image, in the order of `METRICS`.

    A tie is a miss.

    Args:
      patches: [rows, columns], not below 0.
      masks: [objects, H, W] bool.
      named: index of the named object.
    """
    if not np.isfinite(patches).all() or not patches.any():
        return 0.0, 0.0, -1.0, 0.0, 0.0, 1.0
    mask, (height, width) = masks[named], masks.shape[1:]
    pixels = enlarge(patches, (height, width))
    inside, outside = pixels[mask].mean(), pixels[~mask].mean()
    others = [m for i, m in enumerate(masks) if i != named and m.any()]
    # A constant map has no maximum; enlarging it would create one.
    has_maximum = np.ptp(patches) > 0
    best_other = max((pixels[m].mean() for m in others), default=-1)
    return (
        pixels[mask].sum() / pixels.sum(),
        float(has_maximum and pixels[mask].max() > pixels[~mask].max()),
        (inside - outside) / (inside + outside),
        float(has_maximum and inside > best_other),
        sum(has_maximum and pixels[m].max() > pixels[~m].max() for m in others)
        / max(len(others), 1),
        0.0,
    )


class _Objects:
    """The objects of a source as records: an image, a name and a mask each.

    Attributes:
      names: of all objects.
      left_out: number of objects that cover all of their image.
    """

    classes = ()
    fingerprint = ""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.names: list[str] = []
        self._locations: list[tuple[int, int]] = []  # (record, object)
        self.left_out = 0
        for index in range(len(source)):
            for number, (name, mask) in enumerate(
                zip(*_read_objects(source, index), strict=True)
            ):
                if not mask.any():
                    raise ClipinError(
                        f"record {index}, {source.describe(index)}: object {number}, "
                        f"{name!r}, covers no pixel of the image: is its box in pixels"
                        " of the file?"
                    )
                if mask.all():
                    self.left_out += 1
                    continue
                self.names.append(name)
                self._locations.append((index, number))
        if not self.names:
            raise ClipinError(
                "localization: the source has no object that covers a part of its image"
            )

    def __len__(self) -> int:
        return len(self._locations)

    def __getitem__(self, index: int) -> Record:
        return self._source[self._locations[index][0]]

    def annotations(self, index: int) -> Annotations:
        """Returns the annotations of the image."""
        return self._source.annotations(self._locations[index][0])

    def describe(self, index: int) -> str:
        """Returns where the image comes from."""
        return self._source.describe(self._locations[index][0])

    def masks(self, index: int) -> tuple[np.ndarray, int]:
        """Returns the masks of all objects of the image, and the index of this one."""
        record, number = self._locations[index]
        return _read_objects(self._source, record)[1], number


def _read_objects(source: Any, index: int) -> tuple[list[str], np.ndarray]:
    """Returns names and masks [objects, H, W] of one record."""
    if hasattr(source, "masks"):
        return list(source.names(index)), source.masks(index)
    boxes = read_annotations(source, index).get("boxes")
    if boxes is None:
        raise ClipinError(
            f"record {index}, {source.describe(index)}, has no boxes, and the source "
            "no masks: localization needs one of them, as in data.source 'scenes'"
        )
    size = decode(source[index]["image"]).shape[:2]
    masks = [_box_mask(box[1:], size) for box in boxes]
    return [box[0] for box in boxes], np.asarray(masks).reshape(-1, *size)


def _box_mask(box: tuple[float, ...], size: tuple[int, ...]) -> np.ndarray:
    """Returns the pixels whose center is in a box (left, top, width, height)."""
    left, top, width, height = box
    rows, columns = np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5
    in_rows = (rows >= top) & (rows < top + height)
    return in_rows[:, None] & (columns >= left) & (columns < left + width)
