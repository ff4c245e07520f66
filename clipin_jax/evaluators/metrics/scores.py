"""Scores of classification and retrieval.

Ranks count ties and NaN against the model, so that a collapsed or diverged network gets
the lowest score, not the highest. Areas under curves are NaN for NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Products of equal features differ by rounding, depending on their place in a matrix.
# Cosines that differ by less than this are ties.
MARGIN = 1e-6


class MacroScore(NamedTuple):
    """The unweighted mean over classes, and the number of classes left out of it."""

    value: float
    left_out: int


def roc_auc(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns the area under the ROC curve of each class; a tied pair counts as 1/2.

    Args:
      labels: [B, K] or [B], 0 or 1.
      scores: of the same shape.

    Returns:
      [K], or a scalar. NaN for a class without positives or negatives.
    """
    from scipy.stats import rankdata  # here: it takes half a second to import

    labels = np.asarray(labels, bool)
    ranks = rankdata(scores, axis=0)
    positives = labels.sum(axis=0)
    negatives = len(labels) - positives
    # Mann-Whitney: the rank sum of the positives less its smallest possible value.
    wins = (ranks * labels).sum(axis=0) - positives * (positives + 1) / 2
    defined = (positives > 0) & (negatives > 0)
    area = wins / np.where(defined, positives * negatives, 1)
    return np.where(defined, area, np.nan)


def average_precision(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns the step-wise average precision; equal scores are one threshold.

    Args:
      labels: [B, K] or [B], 0 or 1.
      scores: of the same shape.

    Returns:
      [K], or a scalar: 0 without positives, 1 without negatives, NaN if a score of the
      class is NaN.
    """
    scores = np.asarray(scores)
    order = np.argsort(-scores, axis=0, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=0)
    hits = np.take_along_axis(np.asarray(labels, np.int64), order, axis=0)
    true_positives = np.cumsum(hits, axis=0)
    places = np.arange(1, len(scores) + 1).reshape(-1, *(1,) * (scores.ndim - 1))
    last = np.ones(scores.shape, bool)
    last[:-1] = ranked[1:] != ranked[:-1]
    # Hits in a group of equal scores count at its end, with its precision.
    at_ends = np.where(last, true_positives, 0)
    before = np.zeros_like(at_ends)
    before[1:] = np.maximum.accumulate(at_ends, axis=0)[:-1]
    gained = np.where(last, true_positives - before, 0)
    total = np.maximum(true_positives[-1], 1)
    precision = (gained * true_positives / places).sum(axis=0) / total
    return np.where(np.isnan(scores).any(axis=0), np.nan, precision)


def macro_roc_auc(labels: np.ndarray, scores: np.ndarray) -> MacroScore:
    """Returns the mean AUC over the classes with both positives and negatives.

    labels, scores: [B, K].
    """
    positives = np.sum(labels, axis=0)
    defined = np.logical_and(positives > 0, positives < len(labels))
    return _macro(roc_auc(labels, scores), defined)


def macro_average_precision(labels: np.ndarray, scores: np.ndarray) -> MacroScore:
    """Returns the mean average precision over the classes with positives.

    labels, scores: [B, K].
    """
    positives = np.sum(labels, axis=0)
    return _macro(average_precision(labels, scores), positives > 0)


def _macro(values: np.ndarray, defined: np.ndarray) -> MacroScore:
    kept = values[defined]
    mean = float(kept.mean()) if len(kept) else float("nan")
    return MacroScore(mean, int((~defined).sum()))


def label_ranks(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns how many other classes score no lower than the true one: [B] int.

    labels: [B] int; scores: [B, K]. 0 is a hit without a tie.
    """
    true = np.take_along_axis(scores, np.asarray(labels)[:, None], axis=1)
    # Every score that is not strictly below counts, also NaN. The true class counts
    # once, so it is subtracted.
    return (~(scores < true)).sum(axis=1) - 1


def topk_accuracy(labels: np.ndarray, scores: np.ndarray, k: int) -> float:
    """Returns the share of samples whose class is among the k highest scores.

    labels: [B] int; scores: [B, K].
    """
    return float((label_ranks(labels, scores) < k).mean())


def mean_per_class_recall(labels: np.ndarray, scores: np.ndarray) -> float:
    """Returns the mean of the accuracies within each class that occurs.

    labels: [B] int; scores: [B, K].
    """
    hits = label_ranks(labels, scores) == 0
    counts = np.bincount(labels)
    recall = np.bincount(labels, weights=hits) / np.maximum(counts, 1)
    return float(recall[counts > 0].mean())


def top_labels_accuracy(labels: np.ndarray, scores: np.ndarray) -> float:
    """Returns the share of a sample's k true labels among its k highest scores.

    The mean is over the samples with a label. Of equal scores, those of wrong classes
    are higher.

    labels: [B, K], 0 or 1; scores: [B, K].
    """
    labels = np.asarray(labels, bool)
    is_labeled = labels.any(axis=1)
    labels, scores = labels[is_labeled], np.asarray(scores)[is_labeled]
    # The last key sorts first: by falling score, among equals the wrong labels first.
    order = np.lexsort((labels, -scores), axis=1)
    hits = np.take_along_axis(labels, order, axis=1)
    number = labels.sum(axis=1)
    within = np.arange(labels.shape[1]) < number[:, None]
    return float(((hits & within).sum(axis=1) / number).mean())


def image_to_text_ranks(
    similarity: np.ndarray,
    text_to_image: np.ndarray,
    *,
    first_image: int = 0,
    margin: float = 0.0,
) -> np.ndarray:
    """Returns how many captions of other images score no lower than the best own one.

    Args:
      similarity: [I, T], with the images from `first_image` on as rows.
      text_to_image: [T] int, the image of every caption.
      first_image: index of the first row.
      margin: captions that are less than this below the best own one are ties.

    Returns:
      [I] int; 0 is best.
    """
    images = first_image + np.arange(len(similarity))
    is_own = text_to_image[None] == images[:, None]
    best = np.where(is_own, similarity, -np.inf).max(axis=1, keepdims=True)
    return (~(similarity < best - margin) & ~is_own).sum(axis=1)


def text_to_image_ranks(
    similarity: np.ndarray, text_to_image: np.ndarray, *, margin: float = 0.0
) -> np.ndarray:
    """Returns how many other images score no lower than a caption's image.

    similarity: [I, T]; text_to_image: [T] int; margin: as in `image_to_text_ranks`.
    Returns [T] int; 0 is best.
    """
    columns = np.arange(similarity.shape[1])
    true = similarity[text_to_image, columns]
    # The caption's own image is not below itself, so it is subtracted.
    return (~(similarity < true - margin)).sum(axis=0) - 1


def feature_ranks(
    image: np.ndarray, text: np.ndarray, text_to_image: np.ndarray, *, rows: int = 512
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ranks of both directions, without the whole matrix of cosines.

    Args:
      image: [I, E] float32 of unit norm.
      text: [T, E] float32 of unit norm.
      text_to_image: [T] int, the image of every caption.
      rows: images compared with all texts at a time; they bound the memory.

    Returns:
      Image-to-text ranks [I] and text-to-image ranks [T].
    """
    true = np.einsum("te,te->t", text, image[text_to_image])
    image_ranks, above = [], np.zeros(len(text), int)
    for first in range(0, len(image), rows):
        similarity = image[first : first + rows] @ text.T
        row = text_to_image - first
        here = np.flatnonzero((row >= 0) & (row < len(similarity)))
        similarity[row[here], here] = true[here]
        image_ranks.append(
            image_to_text_ranks(
                similarity, text_to_image, first_image=first, margin=MARGIN
            )
        )
        above += (~(similarity < true - MARGIN)).sum(axis=0)
    # The caption's own image is not below itself, so it is subtracted.
    return np.concatenate(image_ranks), above - 1


def recall_at(ranks: np.ndarray, k: int) -> float:
    """Returns the share of queries with a rank below k; ranks: [Q], 0 is best."""
    return float((ranks < k).mean())


def median_rank(ranks: np.ndarray) -> float:
    """Returns the median place of the match, 1 is best; ranks: [Q], 0 is best."""
    return float(np.median(ranks) + 1)


def chance_recalls(matches: np.ndarray, candidates: int) -> np.ndarray:
    """Returns the recalls at 1, 2, ... `candidates` of a random order: [candidates].

    A query misses at k with probability C(candidates - matches, k) / C(candidates, k).
    The median rank of a random order is where the recall passes one half.

    matches: [Q] int, how many of the candidates match each query.
    """
    number, queries = np.unique(matches, return_counts=True)
    drawn = np.arange(candidates)
    left = np.maximum(candidates - number[:, None] - drawn, 0)
    hit = 1 - np.cumprod(left / (candidates - drawn), axis=1)
    return queries @ hit / queries.sum()


def members(labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns labels as [B, K] bool, from [B] int or [B, K] bool."""
    return labels if labels.ndim == 2 else np.eye(classes, dtype=bool)[labels]


def classification_scores(
    labels: np.ndarray, probabilities: np.ndarray
) -> dict[str, float]:
    """Returns the scores of a classifier, and "chance/METRIC" of a random one.

    Args:
      labels: [B] int, one label each; or [B, K] bool, any number of labels.
      probabilities: [B, K].
    """
    is_multi_label = labels.ndim == 2
    is_member = members(labels, probabilities.shape[1])
    auc = macro_roc_auc(is_member, probabilities)
    precision = macro_average_precision(is_member, probabilities)
    occurring = is_member.any(axis=0)
    return {
        **(_multi_label if is_multi_label else _single_label)(labels, probabilities),
        "macro_auc": auc.value,
        "chance/macro_auc": 0.5,
        "mean_average_precision": precision.value,
        "chance/mean_average_precision": float(is_member[:, occurring].mean()),
        "classes_left_out": float(auc.left_out),
    }


def classification_trials(labels: np.ndarray) -> dict[str, int]:
    """Returns the number of samples for each score that is a share of samples.

    labels: as for `classification_scores`. With several labels no score is one.
    """
    if labels.ndim == 2:
        return {}
    return dict.fromkeys(("accuracy", "top5_accuracy"), len(labels))


def _single_label(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    classes = probabilities.shape[1]
    top5 = {
        "top5_accuracy": topk_accuracy(labels, probabilities, 5),
        "chance/top5_accuracy": 5 / classes,
    }
    return {
        "accuracy": topk_accuracy(labels, probabilities, 1),
        "chance/accuracy": 1 / classes,
        **(top5 if classes > 5 else {}),
        "mean_per_class_recall": mean_per_class_recall(labels, probabilities),
        "chance/mean_per_class_recall": 1 / classes,
    }


def _multi_label(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    number = labels.sum(axis=1)
    return {
        "accuracy": top_labels_accuracy(labels, probabilities),
        "chance/accuracy": float(number[number > 0].mean() / labels.shape[1]),
    }
