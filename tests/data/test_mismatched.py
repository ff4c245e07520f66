"""Images with captions of other images: which, how many, and what stays."""

import numpy as np
import pytest

from clipin_jax.data import make_source
from clipin_jax.errors import ClipinError

SCENES = dict(name="scenes", length=400, size=16, labels="shape")


def mismatched(share, **more):
    return make_source(name="mismatched", source=SCENES, share=share, **more)


def test_a_share_has_the_captions_of_another_record_and_its_own_image_and_label():
    source, original = mismatched(0.3), make_source(**SCENES)
    known = {original.annotations(i)["captions"] for i in range(len(original))}
    changed = 0
    for index in range(len(source)):
        record, own = source[index], original[index]
        np.testing.assert_array_equal(record["image"], own["image"])
        assert record["label"] == own["label"]
        assert record["captions"] in known
        assert record["captions"] == source.annotations(index)["captions"]
        changed += record["captions"] != own["captions"]
    assert 0.2 * len(source) < changed < 0.4 * len(source)


def test_the_choice_depends_on_the_seed_alone():
    def captions(**more):
        source = mismatched(0.5, **more)
        return [source.annotations(index)["captions"] for index in range(50)]

    assert captions() == captions(seed=0) != captions(seed=1)
    assert mismatched(0.5).fingerprint != mismatched(0.5, seed=1).fingerprint
    assert mismatched(0.5).fingerprint != mismatched(0.4).fingerprint


def test_no_share_and_all_of_them():
    original = make_source(**SCENES)
    none, everything = mismatched(0.0), mismatched(1.0)
    for index in range(50):
        assert none[index]["captions"] == original[index]["captions"]
        assert everything._other(index) not in (None, index)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_that_is_none(share):
    with pytest.raises(ClipinError, match="source.share"):
        mismatched(share)


def test_one_record_has_no_other():
    with pytest.raises(ClipinError, match="at least two records"):
        one = dict(name="scenes", length=1, size=16)
        make_source(name="mismatched", source=one, share=0.5)
