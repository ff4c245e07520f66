"""Text-to-image and image-to-text retrieval over all pairs of a source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.base import Figure, prefixed
from clipin_jax.evaluators.metrics import scores
from clipin_jax.evaluators.rerank import rerank
from clipin_jax.inference.encoder import Encoder, read_annotations

RECALLS = (1, 5, 10)


FIGURES = {
    "*_R@1": Figure("{:.1%}", headline=True),
    "*_R@*": Figure("{:.1%}"),
    "mean_recall": Figure("{:.1%}", headline=True),
    "*_median_rank": Figure("{:.1f}", better="lower"),
}


class Retrieval:
    """R@1, 5, 10 and median rank in both directions.

    An image may have several captions: any of them is a hit for the image, and the
    image is the only hit for each. Ties count against the model.
    """

    task = "zeroshot_retrieval"
    figures = {**prefixed("reranked/", FIGURES), **FIGURES}
    benchmark_keys = {
        **{f"image_retrieval_recall@{k}": f"text_to_image_R@{k}" for k in RECALLS},
        **{f"text_retrieval_recall@{k}": f"image_to_text_R@{k}" for k in RECALLS},
    }

    def __init__(
        self,
        encode: Encoder,
        *,
        source: Any,
        batch_size: int = 256,
        max_captions: int = 0,
        similarity: str = "contrastive",
        rerank: int = 0,
        rerank_cosine_weight: float = 0.0,
    ) -> None:
        """Reads the captions, so that what is wrong with them shows before training.

        max_captions: how many captions an image brings at most, its first ones; 0 is
        all. rerank: how many candidates of each query a matching objective ranks again;
        0 is none. rerank_cosine_weight: see `rerank.rerank`. similarity: see
        `Encoder.compared`. Raises ClipinError for a similarity that does not exist, an
        image without a caption, or a model that cannot match, or predict.
        """
        self._compared = encode.compared(similarity)
        self._batch_size = batch_size
        self._rerank = rerank, rerank_cosine_weight
        self._match = encode.matcher() if rerank else None
        self._captions, self._owner = read_captions(source, max_captions)
        self.source = source
        self.image_size = encode.image_size
        self.interpolation = encode.interpolation
        self.examples: dict[str, list[dict[str, Any]]] = {}

    def run(self, state: Any) -> Iterator[tuple[str, float]]:
        """Yields (name, value); `chance/<name>` says what a random order gets.

        Afterwards `examples` holds the best and the worst captions with what they
        brought up.
        """
        captions, owner = self._captions, self._owner
        image = self._compared.images(state, self.source, self._batch_size)
        text = self._compared.texts(state, captions, self._batch_size)
        image_ranks, text_ranks = scores.feature_ranks(image, text, owner)
        self.examples = _examples(image, text, captions, owner, text_ranks)
        own = np.bincount(owner, minlength=len(image))
        one = np.ones(len(owner), int)
        chances = {
            "image_to_text": scores.chance_recalls(own, len(owner)),
            "text_to_image": scores.chance_recalls(one, len(image)),
        }
        ranks = {"image_to_text": image_ranks, "text_to_image": text_ranks}
        yield from _recalls(ranks, chances)
        for name, direction in ranks.items():
            yield f"{name}_median_rank", scores.median_rank(direction)
        if self._match:
            found = (image, text), (image_ranks, text_ranks)
            again = self._again(self._match, state.variables, *found)
            for name, value in _recalls(dict(zip(ranks, again, strict=True)), chances):
                if not name.startswith("chance/"):
                    yield f"reranked/{name}", value
        for name, chance in chances.items():
            # A hair below one half is one half with rounding.
            median = float(np.argmax(chance >= 0.5 - 1e-9) + 1)
            yield f"chance/{name}_median_rank", median

    def _again(
        self, match: Callable[..., np.ndarray], variables: Any, features: tuple,
        ranks: tuple,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Both kinds of ranks once the candidates are matched one by one."""

        def score(pairs: np.ndarray) -> np.ndarray:
            return match(
                variables, self.source, self._captions, pairs, self._batch_size
            )

        (image, text), (k, cosine_weight) = features, self._rerank
        return rerank(image, text, self._owner, ranks, k, score, cosine_weight)


def read_captions(source: Any, max_captions: int) -> tuple[list[str], np.ndarray]:
    """All captions of a source and the image of each: T strings, [T] int.

    max_captions: how many an image brings at most; 0 is all.
    Raises ClipinError for an image without a caption, or a record of no use otherwise.
    """
    captions, owner = [], []
    for index in range(len(source)):
        own = read_annotations(source, index)["captions"][: max_captions or None]
        if not own:
            raise ClipinError(
                f"record {index}, {source.describe(index)}, has no caption: give it"
                " one, or leave it out of the source"
            )
        captions += own
        owner += [index] * len(own)
    return captions, np.asarray(owner)


def _recalls(ranks: dict, chances: dict) -> Iterator[tuple[str, float]]:
    found, chance = [], []
    for name, direction in ranks.items():
        for k in RECALLS:
            found.append(scores.recall_at(direction, k))
            chance.append(float(chances[name][min(k, len(chances[name])) - 1]))
            yield f"{name}_R@{k}", found[-1]
            yield f"chance/{name}_R@{k}", chance[-1]
    yield "mean_recall", float(np.mean(found))
    yield "chance/mean_recall", float(np.mean(chance))


def _examples(
    image: np.ndarray,
    text: np.ndarray,
    captions: list[str],
    owner: np.ndarray,
    ranks: np.ndarray,
    *,
    number: int = 4,
    shown: int = 5,
) -> dict[str, list[dict[str, Any]]]:
    """The captions that fared best and worst, with the images that each brought up.

    Only one caption of an image is kept; among equal ranks the higher own cosine is
    the better.
    """
    own_score = np.einsum("te,te->t", text, image[owner])
    order = np.lexsort((-own_score, ranks))

    def describe(t: int) -> dict[str, Any]:
        cosine = image @ text[t]
        top = np.argsort(-cosine, kind="stable")[:shown]
        return {
            "caption": captions[t],
            "image": int(owner[t]),
            "rank": int(ranks[t]) + 1,
            "score": float(own_score[t]),
            "retrieved": [(int(i), float(cosine[i])) for i in top],
        }

    def distinct(texts: np.ndarray) -> list[int]:
        _, first = np.unique(owner[texts], return_index=True)
        return texts[np.sort(first)[:number]].tolist()

    return {
        "best": [describe(t) for t in distinct(order)],
        "worst": [describe(t) for t in distinct(order[::-1])],
    }
