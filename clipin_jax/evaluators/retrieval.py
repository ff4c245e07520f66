"""Text-to-image and image-to-text retrieval over all pairs of a source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from clipin_jax.data.source import Source
from clipin_jax.evaluators.base import Figure, prefixed
from clipin_jax.evaluators.datasets.annotations import read_captions
from clipin_jax.evaluators.metrics import scores
from clipin_jax.evaluators.metrics.caption_matches import CaptionMatches, Ranks
from clipin_jax.evaluators.metrics.reranking import rerank
from clipin_jax.inference.encode_fns import ModelState
from clipin_jax.inference.encoder import Encoder

RECALLS = (1, 5, 10)
DIRECTIONS = TO_TEXT, TO_IMAGE = "image_to_text", "text_to_image"
FIGURES = {
    "*_R@1": Figure("{:.1%}", headline=True),
    "*_R@*": Figure("{:.1%}"),
    "mean_recall": Figure("{:.1%}", headline=True),
    "*_median_rank": Figure("{:.1f}", better="lower"),
}


class Retrieval:
    """R@1, 5, 10 and median rank in both directions.

    An image may have several captions; each is a match for it. If several images share
    a caption, each of them is a match for it. Ties count against the model.

    With shared captions there are also figures by the stricter rule of CLIP_benchmark,
    `strict/...`: only the captions listed for an image match it. `ceiling/strict/...`
    is the best that a model can reach by that rule, if it is below 1.
    """

    task = "zeroshot_retrieval"
    figures = {
        **prefixed("reranked/", FIGURES),
        **prefixed("strict/", FIGURES),
        **FIGURES,
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
          similarity: `contrastive` compares embeddings; `prediction` compares CLIPin's
            target projections of images with its predictions from texts.
          rerank: how many candidates per query are ranked again by the matching
            objective; 0 for none.
          rerank_cosine_weight: weight of the cosine beside the score of the match.

        Raises:
          ClipinError: no such similarity, an image without a caption, or a model that
            cannot match or predict.
        """
        self._comparison = encoder.comparison(similarity)
        self._batch_size = batch_size
        self._candidates, self._cosine_weight = rerank, rerank_cosine_weight
        self._match = encoder.matcher() if rerank else None
        self._captions, self._image_of_caption = read_captions(source, max_captions)
        self._matches = CaptionMatches(
            self._captions, self._image_of_caption, len(source)
        )
        rule = "strict/" if self._matches.shared else ""  # CLIP_benchmark is strict
        self.benchmark_keys = {
            **{
                f"image_retrieval_recall@{k}": f"{rule}{TO_IMAGE}_R@{k}"
                for k in RECALLS
            },
            **{f"text_retrieval_recall@{k}": f"{rule}{TO_TEXT}_R@{k}" for k in RECALLS},
        }
        # Captions of one image are alike: they count as one outcome.
        self.trials = {"*_R@*": len(source)}
        self.source = source
        self.image_size = encoder.image_size
        self.interpolation = encoder.interpolation
        self.resize = encoder.resize
        self.examples: dict[str, list[dict[str, Any]]] = {}

    def run(self, state: ModelState) -> Iterator[tuple[str, float]]:
        """Yields (metric, value); "chance/METRIC" is that of a random order.

        Afterwards `examples` has the best and the worst captions, with the images that
        each retrieves.
        """
        image = self._comparison.images(state, self.source, self._batch_size)
        text = self._comparison.texts(state, self._captions, self._batch_size)
        ranks = self._matches.ranks(image, text)
        self.examples = self._make_examples(image, text, ranks[1])
        chances = self._chances()
        yield from _recalls(ranks, chances)
        for direction, direction_ranks in zip(DIRECTIONS, ranks, strict=True):
            yield f"{direction}_median_rank", scores.median_rank(direction_ranks)
        if self._match:
            reranked = self._rerank(self._match, state, image, text, ranks=ranks)
            for name, value in _recalls(reranked, chances):
                if not name.startswith("chance/"):
                    yield f"reranked/{name}", value
        if self._matches.shared:
            yield from self._strict(image, text)
        for direction, chance in zip(DIRECTIONS, chances, strict=True):
            # One half may be slightly less after rounding.
            median = float(np.argmax(chance >= 0.5 - 1e-9) + 1)
            yield f"chance/{direction}_median_rank", median

    def _strict(
        self, image: np.ndarray, text: np.ndarray
    ) -> Iterator[tuple[str, float]]:
        """Yields the recalls if only an image's own captions match it."""
        ranks = scores.feature_ranks(image, text, self._image_of_caption)
        ceilings = {k: self._matches.strict_ceilings(k) for k in RECALLS}
        for number, direction in enumerate(DIRECTIONS):
            for k in RECALLS:
                name = f"strict/{direction}_R@{k}"
                yield name, scores.recall_at(ranks[number], k)
                if ceilings[k][number] < 1:
                    yield f"ceiling/{name}", ceilings[k][number]

    def _chances(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the recalls at 1, 2, ... of a random order, for both directions."""
        captions_of_image, images_of_caption = self._matches.counts()
        return (
            scores.chance_recalls(captions_of_image, len(self._captions)),
            scores.chance_recalls(images_of_caption, len(self.source)),
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
            self._matches,
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
