"""Mixtures: shares, places, labels, and invalid ones."""

import numpy as np
import pytest

from clipin_jax.data import make_source
from clipin_jax.errors import ClipinError
from tests.data.test_pipeline import batches_of, config


def part(weight, **source):
    return dict(weight=weight, name="scenes", size=32) | source


def mixture(**sources):
    return make_source(name="mixture", sources=sources)


def test_records_are_those_of_the_parts():
    train, val = dict(length=5), dict(length=3, split="val")
    mixed = mixture(a=part(1.0, **train), b=part(2, **val))
    assert len(mixed) == 8 and [p.weight for p in mixed.parts] == [1.0, 2.0]
    for offset, arguments in ((0, train), (5, val)):
        alone = make_source(name="scenes", size=32, **arguments)
        for index in range(len(alone)):
            record, expected = mixed[offset + index], alone[index]
            np.testing.assert_array_equal(record["image"], expected["image"])
            assert record["captions"] == expected["captions"]
            assert mixed.annotations(offset + index) == alone.annotations(index)
    assert mixed.describe(6) == "scene 1 of val of b"
    for outside in (-1, 8):
        with pytest.raises(IndexError):
            mixed[outside]


def test_batches_have_their_shares_before_and_after_a_resume():
    source = dict(
        name="mixture",
        sources=dict(web=part(3.0, length=90), small=part(1.0, length=20)),
    )
    data = config(source=source)
    whole, _ = batches_of(12, data)
    for batch in whole:
        assert np.sum(batch["index"] < 20) == 3
    small = [
        index for batch in whole for index in batch["index"].tolist() if index < 20
    ]
    assert sorted(small[:20]) == list(range(20))  # epochs of the small source
    _, state = batches_of(5, data)
    rest, _ = batches_of(7, data, start=state)
    for one, other in zip(whole[5:], rest, strict=True):
        assert one["index"].tolist() == other["index"].tolist()


def test_labels_need_the_same_classes_everywhere():
    same = mixture(a=part(1, labels="shape"), b=part(1, labels="shape", split="val"))
    assert len(same.classes) == 8 and "label" in same.annotations(0)
    other = mixture(a=part(1, labels="shape"), b=part(1, labels="color"))
    assert other.classes == () and "label" not in other[0]


def test_fingerprint_knows_parts_and_weights():
    prints = {
        mixture(a=part(1, length=5), b=part(1)).fingerprint,
        mixture(a=part(1, length=6), b=part(1)).fingerprint,
        mixture(a=part(2, length=5), b=part(1)).fingerprint,
    }
    assert len(prints) == 3


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({}, "`sources` is empty"),
        ({"a": dict(name="scenes")}, "sources.a.weight is None"),
        ({"a": part(0)}, "sources.a.weight is 0"),
        ({"a": part("much")}, "sources.a.weight is much"),
        ({"a": part(1, lenght=5)}, "did you mean 'length'"),
        ({"a": dict(weight=1)}, "name"),
    ],
)
def test_wrong_mixtures(sources, message):
    with pytest.raises(ClipinError, match=message):
        mixture(**sources)
