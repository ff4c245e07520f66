"""Compositionality: images and texts that differ in a detail, such as who does what.

Sources: SugarCrepe (Hsieh et al. 2023, arXiv 2306.14610), Winoground (Thrush et al.
2022, arXiv 2204.03162), MMVP-VLM (Tong et al. 2024, arXiv 2401.06209).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from clipin_jax.errors import check_choice
from clipin_jax.evaluators.base import Figure
from clipin_jax.evaluators.datasets.compositionality import LAYOUTS, read_trials
from clipin_jax.evaluators.metrics import scores
from clipin_jax.inference.encode_fns import ModelState
from clipin_jax.inference.encoder import Encoder
from clipin_jax.inference.image_files import ImageFiles

ROWS = 512  # trials whose vectors are held at a time
Scores = Iterator[tuple[str, float, float]]  # metric, value, value of a random guess


class Compositionality:
    """Shares of trials in which the model prefers the right pairs.

    A pair is preferred if its cosine is larger by more than rounding: a tie is a miss.
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
        encoder: Encoder,
        *,
        format: str,
        folder: str,
        images: str = "",
        similarity: str = "contrastive",
        batch_size: int = 256,
    ) -> None:
        """Reads all texts and locates all images.

        Args:
          encoder: of the model.
          format: "sugarcrepe": folder/*.json, one per subset, and folder/val2017/
            of COCO; "winoground": folder/examples.jsonl and folder/images/; "mmvp":
            folder/Questions.csv and folder/MLLM_VLM Images/PATTERN/.
          folder: of the texts.
          images: folder of the images; "" for the place above.
          similarity: `contrastive` compares embeddings; `prediction` compares CLIPin's
            target projections of images with its predictions from texts.
          batch_size: images or texts encoded at a time.

        Raises:
          ClipinError: files that are missing or malformed.
        """
        check_choice("format", format, tuple(LAYOUTS))
        self._comparison = encoder.comparison(similarity)
        self._batch_size = batch_size
        self._score = SCORES[format]
        trials = read_trials(format, folder, images)
        self._groups = [trial.group for trial in trials]
        self.trials = {"*_score": len(trials)}
        paths = list(dict.fromkeys(path for trial in trials for path in trial.images))
        texts = list(dict.fromkeys(text for trial in trials for text in trial.texts))
        self.source, self._texts = ImageFiles(paths), texts
        image_index = {path: i for i, path in enumerate(paths)}
        text_index = {text: i for i, text in enumerate(texts)}
        self._images_of_trial = np.array(
            [[image_index[path] for path in trial.images] for trial in trials]
        )
        self._texts_of_trial = np.array(
            [[text_index[text] for text in trial.texts] for trial in trials]
        )

    def run(self, state: ModelState) -> Iterator[tuple[str, float]]:
        """Yields (metric, value); "chance/METRIC" is that of a random guess."""
        images = self._comparison.images(state, self.source, self._batch_size)
        texts = self._comparison.texts(state, self._texts, self._batch_size)
        cosines = [
            np.einsum(
                "nie,nte->nit",
                images[self._images_of_trial[i : i + ROWS]],
                texts[self._texts_of_trial[i : i + ROWS]],
            )
            for i in range(0, len(self._groups), ROWS)
        ]
        for name, value, chance in self._score(np.concatenate(cosines), self._groups):
            yield name, value
            yield f"chance/{name}", chance


def text_is_right(cosine: np.ndarray) -> np.ndarray:
    """Tells whether every image prefers its own text: [N, I, 2] to [N] bool."""
    index = np.arange(cosine.shape[1])
    return _all_above(cosine[:, index, index], cosine[:, index, 1 - index])


def image_is_right(cosine: np.ndarray) -> np.ndarray:
    """Tells whether both texts prefer their own image: [N, 2, 2] to [N] bool."""
    return text_is_right(cosine.swapaxes(1, 2))


def _all_above(right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    return np.all(right > wrong + scores.MARGIN, axis=1)


def _sugarcrepe(cosine: np.ndarray, groups: Sequence[str]) -> Scores:
    return _group_accuracies(text_is_right(cosine), groups, chance=0.5)


def _mmvp(cosine: np.ndarray, groups: Sequence[str]) -> Scores:
    return _group_accuracies(image_is_right(cosine), groups, chance=0.25)


def _winoground(cosine: np.ndarray, groups: Sequence[str]) -> Scores:
    text, image = text_is_right(cosine), image_is_right(cosine)
    yield "text_score", _share(text), 0.25
    yield "image_score", _share(image), 0.25
    # In 4 of the 24 orders of four cosines, both right ones are above both others.
    yield "group_score", _share(text & image), 1 / 6


def _group_accuracies(
    right: np.ndarray, groups: Sequence[str], chance: float
) -> Scores:
    """Yields the unweighted mean over groups, then the accuracy of each group."""
    accuracies = {
        name: _share(right[np.equal(groups, name)]) for name in dict.fromkeys(groups)
    }
    yield "accuracy", float(np.mean(list(accuracies.values()))), chance
    for name, value in accuracies.items():
        yield f"accuracy/{name}", value, chance


def _share(right: np.ndarray) -> float:
    return float(right.mean())


SCORES: dict[str, Callable[[np.ndarray, Sequence[str]], Scores]] = {
    "sugarcrepe": _sugarcrepe,
    "winoground": _winoground,
    "mmvp": _mmvp,
}
