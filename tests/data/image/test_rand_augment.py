"""RandAugment: each operation against Pillow's, and the draws of a view."""

import math
from collections import Counter

import cv2
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from clipin_jax.data.image import make_transforms, rand_augment, views
from clipin_jax.errors import ClipinError
from tests.data.image.test_views import OFF, smooth_image, whole
from tests.data.test_pipeline import batches_of, config

BILINEAR, AFFINE = Image.Resampling.BILINEAR, Image.Transform.AFFINE
NOISE = np.random.default_rng(0).integers(20, 201, (41, 53, 3), np.uint8)
FLAT = np.full((9, 11, 3), 77, np.uint8)
IMAGES = [smooth_image(), NOISE, FLAT, NOISE[:2, :3]]
FACTORS = (0.1, 0.64, 1.0, 1.36, 1.9)


def done(view, name, amount=0.0):
    return rand_augment.apply(view, ((name, amount),)).astype(int)


@pytest.mark.parametrize("image", IMAGES, ids=lambda p: str(p.shape))
def test_colours_equal_those_of_pillow(image):
    pillow = Image.fromarray(image)
    assert (done(image, "identity") == image).all()
    assert (done(image, "autocontrast") == ImageOps.autocontrast(pillow)).all()
    assert (done(image, "equalize") == ImageOps.equalize(pillow)).all()
    for factor in FACTORS:
        bright = ImageEnhance.Brightness(pillow).enhance(factor)
        assert (done(image, "brightness", factor) == bright).all()
        # Pillow cuts fractions off, OpenCV rounds.
        sharp = np.asarray(ImageEnhance.Sharpness(pillow).enhance(factor)).astype(int)
        assert np.abs(done(image, "sharpness", factor) - sharp).max() <= 1


@pytest.mark.parametrize(
    "name, amount, inverse",
    [
        ("shear_x", 0.21, (1, -0.21, 0, 0, 1, 0)),
        ("shear_x", -0.3, (1, 0.3, 0, 0, 1, 0)),
        ("shear_y", 0.21, (1, 0, 0, -0.21, 1, 0)),
        ("translate_x", 7, (1, 0, -7, 0, 1, 0)),
        ("translate_x", -3.5, (1, 0, 3.5, 0, 1, 0)),
        ("translate_y", 7, (1, 0, 0, 0, 1, -7)),
        ("rotate", 21, None),
        ("rotate", -30, None),
    ],
)
@pytest.mark.parametrize("image", IMAGES[:2], ids=["smooth", "noise"])
def test_movements_equal_those_of_pillow(image, name, amount, inverse):
    def moved(image, fill):
        if inverse is None:
            return image.rotate(amount, BILINEAR, fillcolor=fill)
        return image.transform(image.size, AFFINE, inverse, BILINEAR, fillcolor=fill)

    expected = np.asarray(moved(Image.fromarray(image), (128, 128, 128))).astype(int)
    actual = done(image, name, amount)
    # The two differ at the seam: OpenCV blends with the fill there.
    seen = np.asarray(moved(Image.new("L", image.shape[1::-1], 255), 0))
    seam = np.ones((5, 5), np.uint8)
    inside = cv2.erode(seen, seam, borderValue=255) == 255
    outside = cv2.dilate(seen, seam) == 0
    assert inside.sum() > 0.4 * inside.size and outside.any()
    # Places of older OpenCVs are multiples of 1/32 pixel; neighbours differ by 180.
    limit = 5 if image is NOISE else 1
    assert np.abs(actual - expected)[inside].max() <= limit
    assert np.abs(actual - expected)[inside].mean() < 1
    assert (actual[outside] == 128).all()


def drawn(count, magnitude=7, times=4000):
    rng = np.random.default_rng(0)
    return [rand_augment.sample(rng, count, magnitude) for _ in range(times)]


def test_shares_of_operations():
    operations = drawn(2)
    sizes = Counter(len(chosen) for chosen in operations)
    for size, share in ((0, 0.25), (1, 0.5), (2, 0.25)):
        deviation = math.sqrt(4000 * share * (1 - share))
        assert abs(sizes[size] - 4000 * share) < 5 * deviation
    names = Counter(name for chosen in operations for name, _ in chosen)
    assert len(names) == 10
    assert all(abs(count - 400) < 5 * math.sqrt(400) for count in names.values())
    assert any(a == b for (a, _), (b, _) in [x for x in operations if len(x) == 2])
    assert drawn(0, times=3) == [()] * 3


def test_amounts():
    amounts = {}
    for chosen in drawn(2, magnitude=5):
        for name, amount in chosen:
            amounts.setdefault(name, set()).add(round(amount, 9))
    for name in ("identity", "autocontrast", "equalize"):
        assert amounts[name] == {0}
    for name in ("brightness", "sharpness"):
        assert amounts[name] == {1.0}
    for name in ("shear_x", "shear_y"):
        assert amounts[name] == {0.15, -0.15}
    for name in ("translate_x", "translate_y"):
        assert amounts[name] == {5, -5}
    assert amounts["rotate"] == {15, -15}


def test_other_draws_stay_equal():
    augment = dict(OFF, crop_scale=(0.3, 0.9), flip=0.5, brightness=0.3, blur=0.3)
    streams = [np.random.default_rng(5) for _ in range(3)]
    some_transforms = dict(augment, transforms={"rand_augment": {}})
    settings = [augment, some_transforms, some_transforms]
    seeds = set()
    for _ in range(20):
        plain, some, same = (
            views.sample_view(rng, 50, 60, setting)
            for rng, setting in zip(streams, settings, strict=True)
        )
        assert plain.seed == 0 and some == same
        assert some._replace(seed=0) == plain
        seeds.add(some.seed)
    assert len(seeds) == 20


def translate(view, rng):
    """A transform without randomness."""
    return rand_augment.apply(view, (("translate_x", 10.0),))


def test_views_apply_the_drawn_operations():
    image = smooth_image()
    view = whole(image)._replace(flip=True)
    moved = views.apply_view(image, view, (48, 64), transforms=[translate])
    assert (moved[:, 10:] == image[:, ::-1][:, :-10]).all()
    assert (moved[:, :10] == 128).all()
    assert moved.dtype == np.uint8 and moved.flags["C_CONTIGUOUS"]
    for name, _ in (x for chosen in drawn(2, times=200) for x in chosen):
        assert done(image, name, 0.5).shape == image.shape


def test_batches_are_augmented_and_resumed():
    data = config()
    data.augment.transforms = dict(rand_augment=dict(operations=2))
    whole_run, _ = batches_of(4, data)
    plain, _ = batches_of(4)
    pairs = list(zip(whole_run, plain, strict=True))
    for one, other in pairs:
        assert (one["index"] == other["index"]).all()
        assert (one["view2"]["text"] == other["view2"]["text"]).all()
    changed = [
        (one[view]["image"] != other[view]["image"]).any(axis=(1, 2, 3)).mean()
        for one, other in pairs
        for view in ("view1", "view2")
    ]
    assert 0.5 < np.mean(changed) < 0.9
    _, state = batches_of(2, data)
    rest, _ = batches_of(2, data, start=state)
    for one, other in zip(whole_run[2:], rest, strict=True):
        assert (one["view2"]["image"] == other["view2"]["image"]).all()


@pytest.mark.parametrize("wrong", [dict(operations=-1), dict(magnitude=11)])
def test_invalid_values(wrong):
    [(key, value)] = wrong.items()
    with pytest.raises(ClipinError, match=f"transforms.mine: {key} is {value}"):
        make_transforms({"mine": dict(type="rand_augment", **wrong)})
