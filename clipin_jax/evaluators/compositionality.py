"""Does the model know who does what: images and texts that differ by little.

Sources: SugarCrepe (Hsieh et al. 2023, arXiv 2306.14610), Winoground (Thrush et al.
2022, arXiv 2204.03162), MMVP-VLM (Tong et al. 2024, arXiv 2401.06209).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from clipin_jax.errors import check_choice
from clipin_jax.evaluators.base import Figure
from clipin_jax.evaluators.datasets.compositionality import (
    LAYOUTS,
    Pictures,
    read_items,
)
from clipin_jax.evaluators.metrics import scores
from clipin_jax.inference.encoder import Encoder

ROWS = 512  # trials whose vectors are held at a time
Scored = Iterator[tuple[str, float, float]]  # name, value, what a random guess gets


class Compositionality:
    """Shares of trials in which the model tells apart what differs by little.

    Cosines decide; they have to differ by more than rounding, so that a tie loses.
    """

    task = "compositionality"
    figures = {
        "accuracy": Figure("{:.1%}", headline=True),
        "*_score": Figure("{:.1%}", headline=True),
    }
    benchmark_keys = {
        name: name for name in ("accuracy", "text_score", "image_score", "group_score")
    }

    def __init__(
        self,
        encode: Encoder,
        *,
        format: str,
        folder: str,
        images: str = "",
        similarity: str = "contrastive",
        batch_size: int = 256,
    ) -> None:
        """Reads all texts and finds all pictures.

        format: "sugarcrepe": folder/*.json, one a subset, and folder/val2017/ of COCO;
        "winoground": folder/examples.jsonl and folder/images/; "mmvp":
        folder/Questions.csv and folder/MLLM_VLM Images/PATTERN/. images: the folder of
        the pictures, where it is another. similarity: see `Encoder.compared`.
        Raises ClipinError for what is missing or malformed.
        """
        check_choice("format", format, tuple(LAYOUTS))
        self._compared = encode.compared(similarity)
        self._batch_size = batch_size
        self._score = SCORES[format]
        items = read_items(format, folder, images)
        self._groups = [item.group for item in items]
        paths = list(dict.fromkeys(path for item in items for path in item.images))
        self._texts = list(dict.fromkeys(text for item in items for text in item.texts))
        self.source = Pictures(paths)
        image_at = {path: i for i, path in enumerate(paths)}
        text_at = {text: i for i, text in enumerate(self._texts)}
        self._image = np.array([[image_at[p] for p in item.images] for item in items])
        self._text = np.array([[text_at[t] for t in item.texts] for item in items])

    def run(self, state: Any) -> Iterator[tuple[str, float]]:
        """Yields (name, value); `chance/<name>` says what a random guess gets."""
        images = self._compared.images(state, self.source, self._batch_size)
        texts = self._compared.texts(state, self._texts, self._batch_size)
        cosines = [
            np.einsum(
                "nie,nte->nit",
                images[self._image[i : i + ROWS]],
                texts[self._text[i : i + ROWS]],
            )
            for i in range(0, len(self._groups), ROWS)
        ]
        for name, value, chance in self._score(np.concatenate(cosines), self._groups):
            yield name, value
            yield f"chance/{name}", chance


def text_right(cosine: np.ndarray) -> np.ndarray:
    """[N, I, 2]: whether every image prefers its own text. Returns [N] bool."""
    own = np.arange(cosine.shape[1])
    return _above(cosine[:, own, own], cosine[:, own, 1 - own])


def image_right(cosine: np.ndarray) -> np.ndarray:
    """[N, 2, 2]: whether both texts prefer their own image. Returns [N] bool."""
    return text_right(cosine.swapaxes(1, 2))


def _above(right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    return np.all(right > wrong + scores.MARGIN, axis=1)


def _sugarcrepe(cosine: np.ndarray, groups: Sequence[str]) -> Scored:
    return _by_group(text_right(cosine), groups, chance=0.5)


def _mmvp(cosine: np.ndarray, groups: Sequence[str]) -> Scored:
    return _by_group(image_right(cosine), groups, chance=0.25)


def _winoground(cosine: np.ndarray, groups: Sequence[str]) -> Scored:
    text, image = text_right(cosine), image_right(cosine)
    yield "text_score", _share(text), 0.25
    yield "image_score", _share(image), 0.25
    # Of the 24 orders of four cosines, four have both right ones above both others.
    yield "group_score", _share(text & image), 1 / 6


def _by_group(right: np.ndarray, groups: Sequence[str], chance: float) -> Scored:
    """Of every group, and the mean over groups: they are of several sizes."""
    names = dict.fromkeys(groups)
    found = {name: _share(right[np.equal(groups, name)]) for name in names}
    yield "accuracy", float(np.mean(list(found.values()))), chance
    for name, value in found.items():
        yield f"accuracy/{name}", value, chance


def _share(right: np.ndarray) -> float:
    return float(right.mean())


SCORES: dict[str, Callable[[np.ndarray, Sequence[str]], Scored]] = {
    "sugarcrepe": _sugarcrepe,
    "winoground": _winoground,
    "mmvp": _mmvp,
}
