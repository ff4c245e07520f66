"""The masks of the embedded scenes against their images."""

import zlib

import numpy as np
import pytest

from clipin_jax.data.scenes.paint import _RGB
from clipin_jax.data.sources.scenes import Scenes

IMAGES = [1308839491, 1658896354]  # checksums; a run's data must never change


@pytest.fixture(scope="module")
def scenes():
    return Scenes("val", length=60, size=64)


def test_masks_did_not_change_the_images():
    """Checksums of images that runs were trained on."""
    plain, shifted = Scenes(length=40, size=48), Scenes(length=40, size=48, shift=0.5)
    sums = [
        zlib.crc32(b"".join(s[i]["image"].tobytes() for i in range(40)))
        for s in (plain, shifted)
    ]
    assert sums == IMAGES


def test_there_is_a_mask_for_every_object(scenes):
    for index in range(len(scenes)):
        masks, names = scenes.masks(index), scenes.names(index)
        assert masks.shape == (len(scenes.scene(index).things), 64, 64)
        assert masks.dtype == bool and len(names) == len(masks)
        assert masks.any(axis=(1, 2)).all()
        assert masks.sum(axis=0).max() == 1  # no pixel is of two objects


def test_names_say_colour_and_shape(scenes):
    for index in range(len(scenes)):
        for thing, name in zip(
            scenes.scene(index).things, scenes.names(index), strict=True
        ):
            article, color, shape = name.split(" ")
            assert (color, shape) == (thing.color, thing.shape)
            assert article == ("an" if color == "orange" else "a")


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_a_mask_has_the_colour_of_its_object(shift):
    """Inside it, and nowhere near it outside."""
    scenes = Scenes("test", length=40, size=96, shift=shift)
    for index in range(len(scenes)):
        image = scenes[index]["image"].astype(float)
        things = zip(scenes.scene(index).things, scenes.masks(index), strict=True)
        for thing, mask in things:
            inside = image[mask]
            # Its light varies by 15 %, each channel by 14, the pixels by noise.
            base = np.asarray(_RGB[thing.color], float)
            assert np.all(np.abs(inside.mean(axis=0) - base) < 0.15 * base + 25)
            assert np.median(np.abs(inside - np.median(inside, axis=0))) < 8


def test_masks_cover_all_pixels_that_are_not_background():
    scenes = Scenes("train", length=200, size=64)
    seen = 0
    for index in range(len(scenes)):
        if scenes.scene(index).background >= 10:
            continue
        image = scenes[index]["image"].astype(float)
        ground = np.abs(image - np.median(image, axis=(0, 1))).max(axis=2) < 25
        covered = scenes.masks(index).any(axis=0)
        # What is left is the smoothed edge, covered by less than a half.
        assert np.mean(~ground & ~covered) < 0.05
        assert np.mean(ground & covered) < 0.01
        seen += 1
    assert seen > 20


def test_a_ring_has_a_hole():
    scenes = Scenes("val", length=200, size=64, objects=(1, 1))
    rings = [i for i in range(len(scenes)) if scenes.scene(i).things[0].shape == "ring"]
    for index in rings:
        rows, columns = np.nonzero(scenes.masks(index)[0])
        middle = round(rows.mean()), round(columns.mean())
        assert not scenes.masks(index)[0][middle]
