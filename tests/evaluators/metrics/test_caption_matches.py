"""Shared captions against slow loops, and the ceilings against the best vectors."""

import numpy as np
import pytest

from clipin_jax.evaluators.metrics import caption_matches
from clipin_jax.evaluators.metrics.caption_matches import CaptionMatches
from clipin_jax.evaluators.metrics.scores import feature_ranks, recall_at

IMAGES = 12


def draw(seed: int, texts: int = 9) -> tuple[list[str], np.ndarray]:
    """Captions of few different texts, up to case and spaces, and their images."""
    rng = np.random.default_rng(seed)
    owner = np.concatenate([np.arange(IMAGES), rng.integers(0, IMAGES, 15)])
    forms = ("no finding {}", "No  finding {} ", "NO FINDING {}")
    captions = [
        forms[rng.integers(3)].format(rng.integers(texts)) for _ in range(len(owner))
    ]
    return captions, owner


def slow_matches(captions: list[str], owner: np.ndarray) -> np.ndarray:
    """Whether image i matches caption t: [I, T]."""
    plain = [" ".join(caption.lower().split()) for caption in captions]
    own = [{plain[t] for t in np.flatnonzero(owner == i)} for i in range(IMAGES)]
    return np.array([[text in own[i] for text in plain] for i in range(IMAGES)])


@pytest.mark.parametrize("seed", range(4))
def test_matches_and_counts(seed):
    captions, owner = draw(seed)
    matches, slow = (
        CaptionMatches(captions, owner, IMAGES),
        slow_matches(captions, owner),
    )
    index = np.indices(slow.shape)
    np.testing.assert_array_equal(matches(*index), slow)
    of_images, of_captions = matches.counts()
    np.testing.assert_array_equal(of_images, slow.sum(axis=1))
    np.testing.assert_array_equal(of_captions, slow.sum(axis=0))
    assert matches.shared


@pytest.mark.parametrize("seed", range(4))
def test_ranks_equal_those_of_a_slow_loop(seed, monkeypatch):
    monkeypatch.setattr(caption_matches, "_ROWS", 5)
    captions, owner = draw(seed)
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(IMAGES, 6)).astype(np.float32)
    text = rng.normal(size=(len(captions), 6)).astype(np.float32)
    image, text = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (image, text))
    text[3], image[2] = text[5], image[4]  # ties
    slow, cosine = slow_matches(captions, owner), image @ text.T
    of_images, of_captions = CaptionMatches(captions, owner, IMAGES).ranks(image, text)
    for i in range(IMAGES):
        best = cosine[i][slow[i]].max()
        assert of_images[i] == (cosine[i][~slow[i]] >= best - 1e-6).sum()
    for t in range(len(captions)):
        best = cosine[slow[:, t], t].max()
        assert of_captions[t] == (cosine[~slow[:, t], t] >= best - 1e-6).sum()


def test_without_shared_captions_the_strict_rule_is_the_same():
    captions, owner = [f"image {i}" for i in range(IMAGES)], np.arange(IMAGES)
    matches = CaptionMatches(captions, owner, IMAGES)
    assert not matches.shared
    vectors = np.random.default_rng(0).normal(size=(2, IMAGES, 4)).astype(np.float32)
    for mine, strict in zip(
        matches.ranks(*vectors), feature_ranks(*vectors, owner), strict=True
    ):
        np.testing.assert_array_equal(mine, strict)
    assert matches.strict_ceilings(1) == (1, 1)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_no_vectors_pass_the_strict_ceilings_and_some_reach_them(k):
    # "no finding" is the caption of three images, one of which also has its own.
    captions = ["no finding", "No finding", "no finding", "a nodule", "a fracture"]
    owner = np.array([0, 1, 2, 2, 3])
    matches = CaptionMatches(captions, owner, 4)
    to_text, to_image = matches.strict_ceilings(k)
    assert to_text == (1 if k > 2 else 2 / 4)
    assert to_image == pytest.approx((min(k, 3) + 2) / 5)
    rng, best = np.random.default_rng(0), [0.0, 0.0]
    for _ in range(500):
        image = rng.normal(size=(4, 5)).astype(np.float32)
        texts = rng.normal(size=(3, 5)).astype(np.float32)[[0, 0, 0, 1, 2]]
        ranks = feature_ranks(image, texts, owner)
        best = [max(b, recall_at(r, k)) for b, r in zip(best, ranks, strict=True)]
    assert best == pytest.approx([to_text, to_image])
