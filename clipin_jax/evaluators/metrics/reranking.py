"""Reranking: embeddings select candidates, a matching head ranks them again.

Source: ALBEF, arXiv 2107.07651, section 4.2; salesforce/ALBEF and salesforce/BLIP,
`evaluation` of their retrieval scripts, which give all but the candidates one score.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_ROWS = 512  # queries compared with all keys at a time
_PAIRS = 1 << 14  # pairs whose vectors are held at a time

ScoreFn = Callable[[np.ndarray], np.ndarray]
MatchFn = Callable[[np.ndarray, np.ndarray], np.ndarray]


def rerank(
    image: np.ndarray,
    text: np.ndarray,
    is_match: MatchFn,
    ranks: tuple[np.ndarray, np.ndarray],
    *,
    k: int,
    score: ScoreFn,
    cosine_weight: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ranks of both directions after reranking the k best candidates.

    Ties count against the model. Other keys rank behind all candidates.

    Args:
      image: [I, E] float32 of unit norm.
      text: [T, E] float32 of unit norm.
      is_match: indices of images and of texts to whether they match, bool.
      ranks: image-to-text [I] and text-to-image [T] by the cosines; 0 is best.
      k: how many candidates a query has.
      score: [P, 2] pairs of an image and a text to [P].
      cosine_weight: weight of the cosine in the score; 0 in ALBEF, 1 in BLIP.

    Returns:
      Image-to-text ranks [I] and text-to-image ranks [T]; 0 is best.
    """
    texts = candidates(image, text, k)  # of every image
    images = candidates(text, image, k)
    pairs = np.concatenate([_pairs(texts), _pairs(images)[:, ::-1]])
    # Sorting pairs as single numbers is much faster.
    unique, inverse = np.unique(pairs @ [len(text), 1], return_inverse=True)
    unique = np.stack(np.divmod(unique, len(text)), axis=1)
    scores = score(unique) + cosine_weight * _cosines(image, text, unique)
    of_images, of_texts = np.split(scores[inverse], [texts.size])
    is_own_text = is_match(_queries(texts), texts)
    is_own_image = is_match(images, _queries(images))
    return (
        new_ranks(ranks[0], of_images.reshape(texts.shape), is_own_text),
        new_ranks(ranks[1], of_texts.reshape(images.shape), is_own_image),
    )


def candidates(query: np.ndarray, key: np.ndarray, k: int) -> np.ndarray:
    """Finds the k keys with the largest products: [Q, E], [K, E] to [Q, min(k, K)] int.

    The best are first, equal ones by their index. If keys tie for the last place, any
    of them may be returned.
    """
    k, key = min(k, len(key)), key.T
    return np.concatenate(
        [_largest(query[i : i + _ROWS] @ key, k) for i in range(0, len(query), _ROWS)]
    )


def _largest(products: np.ndarray, k: int) -> np.ndarray:
    """Returns the indices of the k largest of each row, without sorting whole rows."""
    index = np.sort(np.argpartition(-products, k - 1, axis=1)[:, :k], axis=1)
    values = np.take_along_axis(products, index, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(index, order, axis=1)


def _cosines(image: np.ndarray, text: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Returns the cosines of [P, 2] pairs of an image and a text: [P] float32."""
    cosines = np.empty(len(pairs), np.float32)
    for i in range(0, len(pairs), _PAIRS):
        part = pairs[i : i + _PAIRS]
        cosines[i : i + _PAIRS] = np.einsum(
            "pe,pe->p", image[part[:, 0]], text[part[:, 1]]
        )
    return cosines


def new_ranks(
    ranks: np.ndarray, scores: np.ndarray, is_match: np.ndarray
) -> np.ndarray:
    """Returns the new rank of each query, [Q] int.

    It is that of the best match among the candidates. If no candidate matches, the old
    rank stays, but behind all candidates.

    Args:
      ranks: [Q] int, before reranking.
      scores: [Q, k] of the candidates.
      is_match: [Q, k] bool.
    """
    best = np.where(is_match, scores, -np.inf).max(axis=1, keepdims=True)
    rank = (~is_match & (scores >= best)).sum(axis=1)
    return np.where(is_match.any(axis=1), rank, np.maximum(ranks, scores.shape[1]))


def _pairs(index: np.ndarray) -> np.ndarray:
    """Turns candidates [Q, k] into pairs of query and candidate, [Q * k, 2]."""
    return np.stack([_queries(index).ravel(), index.ravel()], axis=1)


def _queries(index: np.ndarray) -> np.ndarray:
    """Returns the index of each candidate's query: [Q, k] int."""
    return np.broadcast_to(np.arange(len(index))[:, None], index.shape)
