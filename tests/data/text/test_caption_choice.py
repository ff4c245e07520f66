"""Captions of several kinds."""

import numpy as np
import pytest

from clipin_jax.data.source import BadRecord
from clipin_jax.data.text.captions import CaptionChoice, check_weights
from clipin_jax.errors import ClipinError

RECORD = {
    "captions": ("one", "two", "three", "four"),
    "kinds": ("human", "human", "alt", "synthetic"),
}
WEIGHTS = (("human", 0.6), ("synthetic", 0.3), ("none", 0.1))


def drawn(record, weights, count=4000):
    choice, rng = CaptionChoice(weights), np.random.default_rng(0)
    shares = choice.shares(record)
    total = len(record["captions"])
    first = [choice.draw(rng, total, shares) for _ in range(count)]
    second = [choice.draw_another(rng, one, total, shares) for one in first]
    return np.array(first), np.array(second)


def test_kinds_are_read_by_their_weights():
    first, second = drawn(RECORD, WEIGHTS)
    shares = np.bincount(first, minlength=4) / len(first)
    np.testing.assert_allclose(shares, [1 / 3, 1 / 3, 0, 1 / 3], atol=0.03)
    assert (first != second).all() and 2 not in second


def test_without_weights_shares_are_equal():
    first, second = drawn({"captions": ("one", "two", "three")}, ())
    np.testing.assert_allclose(np.bincount(first) / len(first), 1 / 3, atol=0.03)
    assert (first != second).all()


def test_a_single_caption_is_read_again():
    first, second = drawn(RECORD, (("alt", 1.0),), count=20)
    assert (first == 2).all() and (second == 2).all()
    first, second = drawn({"captions": ("one",)}, (), count=20)
    assert (first == 0).all() and (second == 0).all()


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"captions": ()}, "no caption"),
        ({"captions": ("one",)}, "of no kind"),
        ({"captions": ("a", "b"), "kinds": ("alt", "alt")}, "only .* of kind alt"),
    ],
)
def test_records_without_a_caption_to_read(record, reason):
    with pytest.raises(BadRecord, match=reason):
        CaptionChoice(WEIGHTS).shares(record)


@pytest.mark.parametrize(
    "weights",
    [
        ("human",),
        (("human", -1.0),),
        (("a", 0.0),),
        (("a", "b"),),
        ((1, 2),),
        (("a",),),
    ],
)
def test_wrong_weights(weights):
    with pytest.raises(ClipinError, match="data.caption_weights is"):
        check_weights(weights)
    with pytest.raises(ClipinError, match="a kind occurs twice"):
        check_weights((("a", 1.0), ("a", 2.0)))
