"""Retrieval ranked again by a matching head, against a slow loop."""

import numpy as np
import pytest

from clipin_jax.evaluators.metrics import reranking
from clipin_jax.evaluators.metrics.reranking import candidates, new_ranks, rerank
from clipin_jax.evaluators.metrics.scores import feature_ranks


def unit_rows(rng, rows, width=8):
    x = rng.normal(size=(rows, width)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def slow_rank(scores, right, k, old):
    """The place of the best right one when the k best by `old` are sorted by score."""
    first = np.argsort(-old, kind="stable")[:k]
    if not right[first].any():
        return None
    best = max(scores[i] for i in first if right[i])
    return sum(scores[i] >= best for i in first if not right[i])


@pytest.mark.parametrize("k", [1, 3, 7, 100])
def test_equals_a_slow_loop(k, monkeypatch):
    monkeypatch.setattr(reranking, "_ROWS", 4)
    monkeypatch.setattr(reranking, "_PAIRS", 5)
    rng = np.random.default_rng(k)
    image, text = unit_rows(rng, 6), unit_rows(rng, 14)
    image_of_text = rng.permutation(np.arange(14) % 6)
    table = rng.integers(0, 4, (6, 14)).astype(float)  # with ties
    asked = []

    def score(pairs):
        asked.extend(map(tuple, pairs))
        return table[pairs[:, 0], pairs[:, 1]]

    ranks = feature_ranks(image, text, image_of_text)
    images, texts = rerank(
        image,
        text,
        lambda i, t: image_of_text[t] == i,
        ranks,
        k=k,
        score=score,
        cosine_weight=0.5,
    )
    assert len(asked) == len(set(asked))  # no pair is matched twice
    cosine = image @ text.T
    total = table + 0.5 * cosine
    for i in range(6):
        slow = slow_rank(total[i], image_of_text == i, k, cosine[i])
        assert images[i] == (max(ranks[0][i], k) if slow is None else slow)
    for t in range(14):
        slow = slow_rank(total[:, t], np.arange(6) == image_of_text[t], k, cosine[:, t])
        assert texts[t] == (max(ranks[1][t], k) if slow is None else slow)


def test_a_perfect_matching_head_ranks_true_pairs_first():
    rng = np.random.default_rng(0)
    image, text, image_of_text = unit_rows(rng, 8), unit_rows(rng, 8), np.arange(8)
    ranks = feature_ranks(image, text, image_of_text)
    images, texts = rerank(
        image,
        text,
        lambda i, t: image_of_text[t] == i,
        ranks,
        k=8,
        score=lambda pairs: pairs[:, 0] == pairs[:, 1],
    )
    assert not images.any() and not texts.any()


def test_candidates_are_the_nearest_in_order():
    query, key = (
        np.eye(3, dtype=np.float32),
        np.array([[0, 1, 0], [2, 0, 1], [1, 0, 3]]),
    )
    assert candidates(query, key.astype(np.float32), 2).tolist() == [
        [1, 2], [0, 1], [2, 1],
    ]  # fmt: skip


@pytest.mark.parametrize("k", [1, 7, 40, 99])
def test_candidates_equal_those_of_a_full_sort(k):
    rng = np.random.default_rng(k)
    query, key = unit_rows(rng, 30), unit_rows(rng, 40)
    order = np.argsort(-(query @ key.T), axis=1, kind="stable")
    np.testing.assert_array_equal(candidates(query, key, k), order[:, :k])


def test_candidates_that_are_equal_come_by_their_index():
    query = np.eye(2, dtype=np.float32)
    key = np.array([[0, 1], [1, 0], [1, 1], [1, 0]], np.float32)
    assert candidates(query, key, 4).tolist() == [[1, 2, 3, 0], [0, 2, 1, 3]]


def test_ties_count_against_the_model():
    assert new_ranks(np.array([0]), np.zeros((1, 4)), np.eye(4, dtype=bool)[:1]) == [3]
