"""Retrieval in two passes: embeddings find candidates, a matching head ranks them.

Source: ALBEF, arXiv 2107.07651, section 4.2; salesforce/ALBEF and salesforce/BLIP,
`evaluation` of their retrieval scripts, which give all but the candidates one score.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_ROWS = 512  # queries that are compared with everything at a time
_PAIRS = 1 << 14  # pairs whose vectors are held at a time

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
    # A pair as one number is sorted much faster than as two.
    unique, place = np.unique(pairs @ [len(text), 1], return_inverse=True)
    unique = np.stack(np.divmod(unique, len(text)), axis=1)
    scores = score(unique) + cosine_weight * _cosines(image, text, unique)
    scores = scores[place]
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
    """The k keys with the largest products: [Q, E] and [K, E] to [Q, min(k, K)] int.

    Best first, equal ones by their index; of those equal to the last any may be chosen.
    """
    k, key = min(k, len(key)), key.T
    return np.concatenate(
        [_best(query[i : i + _ROWS] @ key, k) for i in range(0, len(query), _ROWS)]
    )


def _best(products: np.ndarray, k: int) -> np.ndarray:
    """Where the k largest of each row are, without sorting all of it."""
    found = np.sort(np.argpartition(-products, k - 1, axis=1)[:, :k], axis=1)
    values = np.take_along_axis(products, found, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)


def _cosines(image: np.ndarray, text: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Of each of [P, 2] pairs of an image and a text; [P] float32."""
    cosines = np.empty(len(pairs), np.float32)
    for i in range(0, len(pairs), _PAIRS):
        some = pairs[i : i + _PAIRS]
        cosines[i : i + _PAIRS] = np.einsum(
            "pe,pe->p", image[some[:, 0]], text[some[:, 1]]
        )
    return cosines


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
