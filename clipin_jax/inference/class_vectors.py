"""Zero-shot classification: the mean vector of a class's prompts is its classifier.

Every prompt is encoded and normalized, the prompts of a class are averaged, and the
average is normalized again (Radford et al. 2021, section 3.1.4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

# CLIP's upper bound. It changes probabilities, but not the ranks of classes.
LOGIT_SCALE = 100.0
MAX_PROMPTS = 8192  # prompts encoded at a time


def class_cosines(
    images: np.ndarray,
    prompts: Sequence[tuple[str, ...]],
    encode: Callable[[list[str]], np.ndarray],
) -> np.ndarray:
    """Returns the cosines of images and classes, [B, K] float64.

    Args:
      images: [B, E] float32 of unit norm.
      prompts: of each class, at least one.
      encode: texts to [T, E] float32 of unit norm.
    """
    vectors, vector_of_class = class_vectors(prompts, encode)
    # Classes with the same prompts tie to the last bit.
    return (images @ vectors.T).astype(np.float64)[:, vector_of_class]


def class_probabilities(cosines: np.ndarray) -> np.ndarray:
    """Returns the softmax over classes of scaled cosines, [B, K]."""
    from scipy.special import softmax  # takes a third of a second to import

    return softmax(LOGIT_SCALE * cosines, axis=1)


def class_vectors(
    prompts: Sequence[tuple[str, ...]], encode: Callable[[list[str]], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns unit vectors [U, E] float32, and the vector of each class, [K] int.

    Classes with the same prompts share a vector.
    """
    index = {texts: i for i, texts in enumerate(dict.fromkeys(prompts))}
    distinct = list(index)
    # Bounds the memory for features, whatever their width.
    classes_at_a_time = max(1, MAX_PROMPTS // max(map(len, distinct)))
    means = []
    for start in range(0, len(distinct), classes_at_a_time):
        part = distinct[start : start + classes_at_a_time]
        vectors = encode([text for texts in part for text in texts])
        ends = np.cumsum([len(texts) for texts in part])
        means += [rows.mean(axis=0) for rows in np.split(vectors, ends[:-1])]
    mean = np.stack(means)
    unit = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return unit, np.asarray([index[texts] for texts in prompts])
