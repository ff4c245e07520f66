"""Retrieval in two passes: embeddings find candidates, a matching head ranks them.

Source: ALBEF, arXiv 2107.07651, section 4.2; salesforce/ALBEF and salesforce/BLIP,
`evaluation` of their retrieval scripts, which give all but the candidates one score.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_ROWS = 512  # queries that are compared with everything at a time

Score = Callable[[np.ndarray], np.ndarray]


def rerank(
    image: np.ndarray,
    text: np.ndarray,
    owner: np.ndarray,
    ranks: tuple[np.ndarray, np.ndarray],
    k: int,
    score: Score,
    cosine_weight: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Both kinds of ranks after the k best candidates of every query changed places.

    Args:
      image: [I, E] float32 of unit norm.
      text: [T, E] float32 of unit norm.
      owner: [T] int, the image that each text belongs to.
      ranks: image-to-text [I] and text-to-image [T] by the cosines; 0 is best.
      k: how many candidates a query has.
      score: [P, 2] pairs of an image and a text to [P].
      cosine_weight: of the cosine that is added to the score; 0 in ALBEF, 1 in BLIP.

    Returns:
      The new ranks. Ties count against the model, and what was no candidate stays
      behind all candidates.
    """
    texts = candidates(image, text, k)  # of every image
    images = candidates(text, image, k)
    pairs = np.concatenate([_pairs(texts), _pairs(images)[:, ::-1]])
    unique, place = np.unique(pairs, axis=0, return_inverse=True)
    cosine = np.einsum("pe,pe->p", image[unique[:, 0]], text[unique[:, 1]])
    scores = (score(unique) + cosine_weight * cosine)[place.ravel()]
    of_images, of_texts = np.split(scores, [texts.size])
    return (
        new_ranks(
            ranks[0],
            of_images.reshape(texts.shape),
            owner[texts] == np.arange(len(image))[:, None],
        ),
        new_ranks(ranks[1], of_texts.reshape(images.shape), images == owner[:, None]),
    )


def candidates(query: np.ndarray, key: np.ndarray, k: int) -> np.ndarray:
    """The k keys with the largest products: [Q, E] and [K, E] to [Q, min(k, K)] int."""
    k = min(k, len(key))
    found = [
        np.argsort(-(query[i : i + _ROWS] @ key.T), axis=1, kind="stable")[:, :k]
        for i in range(0, len(query), _ROWS)
    ]
    return np.concatenate(found)


def new_ranks(ranks: np.ndarray, scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The rank of the best right candidate among the candidates, where there is one.

    Args:
      ranks: [Q] int of before.
      scores: [Q, k] of the candidates.
      right: [Q, k] bool.
    """
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    among = (~right & (scores >= best)).sum(axis=1)
    return np.where(right.any(axis=1), among, np.maximum(ranks, scores.shape[1]))


def _pairs(found: np.ndarray) -> np.ndarray:
    """[Q, k] candidates to [Q * k, 2] pairs of query and candidate."""
    queries = np.repeat(np.arange(len(found)), found.shape[1])
    return np.stack([queries, found.ravel()], axis=1)
