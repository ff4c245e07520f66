"""Text-to-image and image-to-text retrieval over all pairs of a source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from clipin_jax.data.source import Source
from clipin_jax.evaluators.base import Figure, prefixed
from clipin_jax.evaluators.datasets.annotations import read_captions
from clipin_jax.evaluators.metrics import scores
from clipin_jax.evaluators.metrics.reranking import rerank
from clipin_jax.inference.encode_fns import ModelState
from clipin_jax.inference.encoder import Encoder

RECALLS = (1, 5, 10)
DIRECTIONS = ("image_to_text", "text_to_image")
FIGURES = {
    "*_R@1": Figure("{:.1%}", headline=True),
    "*_R@*": Figure("{:.1%}"),
    "mean_recall": Figure("{:.1%}", headline=True),
    "*_median_rank": Figure("{:.1f}", better="lower"),
}

Ranks = tuple[np.ndarray, np.ndarray]  # of images [I] and of captions [T]; 0 is best


class Retrieval:
    """R@1, 5, 10 and median rank in both directions.

    An image may have several captions. Any of them is a match for the image; the image
    is the only match for each of them. Ties count against the model.
    """

    task = "zeroshot_retrieval"
    figures = {**prefixed("reranked/", FIGURES), **FIGURES}
    benchmark_keys = {
        **{f"image_retrieval_recall@{k}": f"text_to_image_R@{k}" for k in RECALLS},
        **{f"text_retrieval_recall@{k}": f"image_to_text_R@{k}" for k in RECALLS},
    }

    def __init__(
        self,
        encoder: Encoder,
        *,
        source: Source,
        batch_size: int = 256,
        max_captions: int = 0,
        similarity: str = "contrastive",
        rerank: int = 0,
        rerank_cosine_weight: float = 0.0,
    ) -> None:
        """Reads the captions.

        Args:
          encoder: of the model.
          source: images with captions.
          batch_size: images, texts or pairs encoded at a time.
          max_captions: how many captions to read per image, the first ones; 0 for all.
          similarity: see `Encoder.comparison`.
          rerank: how many candidates per query are ranked again by the matching
            objective; 0 for none.
          rerank_cosine_weight: see `reranking.rerank`.

        Raises:
          ClipinError: no such similarity, an image without a caption, or a model that
            cannot match or predict.
        """
        self._comparison = encoder.comparison(similarity)
        self._batch_size = batch_size
        self._candidates, self._cosine_weight = rerank, rerank_cosine_weight
        self._match = encoder.matcher() if rerank else None
        self._captions, self._image_of_caption = read_captions(source, max_captions)
        self.source = source
        self.image_size = encoder.image_size
        self.interpolation = encoder.interpolation
        self.examples: dict[str, list[dict[str, Any]]] = {}

    def run(self, state: ModelState) -> Iterator[tuple[str, float]]:
        """Yields (metric, value); "chance/METRIC" is that of a random order.

        Afterwards `examples` has the best and the worst captions, with the images that
        each retrieves.
        """
        image = self._comparison.images(state, self.source, self._batch_size)
        text = self._comparison.texts(state, self._captions, self._batch_size)
        ranks = scores.feature_ranks(image, text, self._image_of_caption)
        self.examples = self._make_examples(image, text, ranks[1])
        chances = self._chances(len(image))
        yield from _recalls(ranks, chances)
        for direction, direction_ranks in zip(DIRECTIONS, ranks, strict=True):
            yield f"{direction}_median_rank", scores.median_rank(direction_ranks)
        if self._match:
            reranked = self._rerank(self._match, state, image, text, ranks=ranks)
            for name, value in _recalls(reranked, chances):
                if not name.startswith("chance/"):
                    yield f"reranked/{name}", value
        for direction, chance in zip(DIRECTIONS, chances, strict=True):
            # One half may be slightly less after rounding.
            median = float(np.argmax(chance >= 0.5 - 1e-9) + 1)
            yield f"chance/{direction}_median_rank", median

    def _chances(self, num_images: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the recalls at 1, 2, ... of a random order, for both directions."""
        num_captions = len(self._image_of_caption)
        captions_of_image = np.bincount(self._image_of_caption, minlength=num_images)
        images_of_caption = np.ones(num_captions, int)
        return (
            scores.chance_recalls(captions_of_image, num_captions),
            scores.chance_recalls(images_of_caption, num_images),
        )

    def _rerank(
        self,
        match: Callable[..., np.ndarray],
        state: ModelState,
        image: np.ndarray,
        text: np.ndarray,
        *,
        ranks: Ranks,
    ) -> Ranks:
        """Returns the ranks of both directions after reranking the candidates."""

        def score(pairs: np.ndarray) -> np.ndarray:
            return match(
                state, self.source, self._captions, pairs, batch_size=self._batch_size
            )

        return rerank(
            image,
            text,
            self._image_of_caption,
            ranks,
            k=self._candidates,
            score=score,
            cosine_weight=self._cosine_weight,
        )

    def _make_examples(
        self,
        image: np.ndarray,
        text: np.ndarray,
        ranks: np.ndarray,
        *,
        number: int = 4,
        shown: int = 5,
    ) -> dict[str, list[dict[str, Any]]]:
        """Returns the captions with the best and worst ranks, and what they retrieve.

        An image occurs with one of its captions. Among equal ranks, the caption with
        the higher cosine to its image is better.
        """
        owner = self._image_of_caption
        true_cosine = np.einsum("te,te->t", text, image[owner])
        order = np.lexsort((-true_cosine, ranks))

        def describe(t: int) -> dict[str, Any]:
            cosine = image @ text[t]
            top = np.argsort(-cosine, kind="stable")[:shown]
            return {
                "caption": self._captions[t],
                "image": int(owner[t]),
                "rank": int(ranks[t]) + 1,
                "score": float(true_cosine[t]),
                "retrieved": [(int(i), float(cosine[i])) for i in top],
            }

        def one_per_image(captions: np.ndarray) -> list[int]:
            _, first = np.unique(owner[captions], return_index=True)
            return captions[np.sort(first)[:number]].tolist()

        return {
            "best": [describe(t) for t in one_per_image(order)],
            "worst": [describe(t) for t in one_per_image(order[::-1])],
        }


def _recalls(
    ranks: Ranks, chances: tuple[np.ndarray, np.ndarray]
) -> Iterator[tuple[str, float]]:
    recalls, chance_recalls = [], []
    for direction, query_ranks, chance in zip(DIRECTIONS, ranks, chances, strict=True):
        for k in RECALLS:
            recalls.append(scores.recall_at(query_ranks, k))
            chance_recalls.append(float(chance[min(k, len(chance)) - 1]))
            yield f"{direction}_R@{k}", recalls[-1]
            yield f"chance/{direction}_R@{k}", chance_recalls[-1]
    yield "mean_recall", float(np.mean(recalls))
    yield "chance/mean_recall", float(np.mean(chance_recalls))
