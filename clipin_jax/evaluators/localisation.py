"""Do the maps of a model lie on what a text names? Scored where masks or boxes exist.

Sources: the pointing game of Zhang et al. 2016, arXiv 1608.00507, section 4.2, without
its margin of 15 pixels; energy inside the object of Wang et al. 2020 (Score-CAM), arXiv
1910.01279, section 4.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from clipin_jax.data.image.decode import decode
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.base import Figure
from clipin_jax.inference.encoder import Encoder, read_annotations
from clipin_jax.inference.saliency import enlarge


class Localisation:
    """Energy inside the object, pointing game and contrast of maps, text by text.

    A source says what is where by `names(index)`, a text for each object, and
    `masks(index)`, [objects, H, W] bool, as `scenes` does; or by annotations `boxes`, a
    (text, left, top, width, height) for each object, in pixels of the picture. Each
    text is explained in its picture, and the map, enlarged to the mask's size, is
    compared with the mask.
    """

    task = "localisation"
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
        encode: Encoder,
        *,
        source: Any,
        batch_size: int = 64,
        method: str = "contrastive",
        layer: int | None = None,
        template: str = "{}",
    ) -> None:
        """Reads all objects, so that what is wrong with them shows before training.

        method, layer: see `saliency.make_map_fn`. template: the text, "{}" is where an
        object's own goes. Raises ClipinError for a source that has neither masks nor
        boxes, an object outside its picture, a template without "{}", or a method that
        the model does not offer.
        """
        if "{}" not in template:
            raise ClipinError(
                f"localisation: the template {template!r} has no {{}}, the place for "
                "what an object is called"
            )
        self._pairs = _Pairs(source)
        self.source, self._batch_size = source, batch_size
        self._texts = [template.replace("{}", name) for name in self._pairs.names]
        self._explain = encode.explainer(method, layer)

    def run(self, state: Any) -> Iterator[tuple[str, float]]:
        """Yields (name, value); `chance/<name>` says what a map of no meaning gets.

        energy: share of the map's sum inside the mask. pointing_game: share of maps
        whose greatest value lies inside it alone. contrast: (i - o) / (i + o) of the
        mean value inside and outside, from -1 to 1. named_object: share of maps whose
        mean value is greater on the object than on every other of the picture, where
        there are others; this alone cannot be had by looking at whatever stands out.
        others/pointing_game: the share that another object of the picture gets. empty:
        share of maps that are 0 everywhere, or no number: they are the worst in all of
        these. objects_left_out: how many cover all of their
        picture, where no map can be wrong.
        """
        maps = self._explain(state, self._pairs, self._texts, self._batch_size)
        rows, areas, choices = [], [], []
        for index, small in enumerate(maps["caption"]):
            masks, own = self._pairs.masks(index)
            row = score_map(small, masks, own)
            rows.append(row)
            areas.append(masks[own].mean())
            choices.append(len(masks))
        several = np.asarray(choices) > 1
        for name, column in zip(SCORES, np.transpose(rows), strict=True):
            if name not in OF_SEVERAL:
                yield name, float(column.mean())
            elif several.any():
                yield name, float(column[several].mean())
        if several.any():
            chance = float(np.mean(1 / np.asarray(choices)[several]))
            yield "chance/named_object", chance
        yield "chance/energy", float(np.mean(areas))
        yield "chance/pointing_game", float(np.mean(areas))
        yield "chance/contrast", 0.0
        yield "objects_left_out", float(self._pairs.left_out)


OF_SEVERAL = ("named_object", "others/pointing_game")
SCORES = ("energy", "pointing_game", "contrast", *OF_SEVERAL, "empty")


def score_map(small: np.ndarray, masks: np.ndarray, own: int) -> tuple[float, ...]:
    """One map against the objects of its picture, in the order of `SCORES`.

    small: [rows, columns], not below 0; masks: [objects, H, W] bool; own: which of them
    is meant. A tie is a miss.
    """
    if not np.isfinite(small).all() or not small.any():
        return 0.0, 0.0, -1.0, 0.0, 0.0, 1.0
    mask, (height, width) = masks[own], masks.shape[1:]
    large = enlarge(small, (height, width))
    inside, outside = large[mask].mean(), large[~mask].mean()
    others = [m for i, m in enumerate(masks) if i != own and m.any()]
    points = np.ptp(small) > 0  # an even map does not, wherever it is enlarged to peak
    return (
        large[mask].sum() / large.sum(),
        float(points and large[mask].max() > large[~mask].max()),
        (inside - outside) / (inside + outside),
        float(points and inside > max((large[m].mean() for m in others), default=-1)),
        sum(points and large[m].max() > large[~m].max() for m in others)
        / max(len(others), 1),
        0.0,
    )


class _Pairs:
    """A source of one record an object: its picture, its name, its mask."""

    classes = ()
    fingerprint = ""

    def __init__(self, source: Any) -> None:
        self._source = source
        self.names: list[str] = []
        self._where: list[tuple[int, int]] = []  # (record, object)
        self.left_out = 0
        for index in range(len(source)):
            names, masks = _objects(source, index)
            for number, (name, mask) in enumerate(zip(names, masks, strict=True)):
                if not mask.any():
                    raise ClipinError(
                        f"record {index}, {source.describe(index)}: object {number}, "
                        f"{name!r}, covers nothing of the picture: is its box in pixels"
                        " of the file?"
                    )
                if mask.all():  # no map of such a picture can be wrong
                    self.left_out += 1
                    continue
                self.names.append(name)
                self._where.append((index, number))
        if not self.names:
            raise ClipinError(
                "localisation: the source has not one object that covers a part of its "
                "picture"
            )

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, index: int) -> Any:
        return self._source[self._where[index][0]]

    def annotations(self, index: int) -> Any:
        """Those of the picture."""
        return self._source.annotations(self._where[index][0])

    def describe(self, index: int) -> str:
        """Those of the picture."""
        return self._source.describe(self._where[index][0])

    def masks(self, index: int) -> tuple[np.ndarray, int]:
        """All objects of the picture, and which is meant; not held for all pictures."""
        record, number = self._where[index]
        return _objects(self._source, record)[1], number


def _objects(source: Any, index: int) -> tuple[list[str], np.ndarray]:
    """Names and masks [objects, H, W] of one record."""
    if hasattr(source, "masks"):
        return list(source.names(index)), source.masks(index)
    boxes = read_annotations(source, index).get("boxes")
    if boxes is None:
        raise ClipinError(
            f"record {index}, {source.describe(index)}, has no boxes, and the source "
            "no masks: localisation needs to know where things are, as in data.source "
            "'scenes'"
        )
    size = decode(source[index]["image"]).shape[:2]
    return [box[0] for box in boxes], np.asarray(
        [_box_mask(box[1:], size) for box in boxes]
    ).reshape(-1, *size)


def _box_mask(box: tuple[float, ...], size: tuple[int, ...]) -> np.ndarray:
    """Pixels whose centre lies in a box (left, top, width, height)."""
    left, top, width, height = box
    rows, columns = np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5
    down = (rows >= top) & (rows < top + height)
    return down[:, None] & (columns >= left) & (columns < left + width)
