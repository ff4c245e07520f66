"""Views made on the device against those of the host, with the same parameters."""

import cv2
import jax
import numpy as np
import pytest

from clipin_jax.config import load_config
from clipin_jax.core import sharding
from clipin_jax.core.device_views import DRAWN, make_views
from clipin_jax.data.image import views
from clipin_jax.data.pipeline import TrainBatches
from tests.data.image.test_views import OFF

EVERYTHING = dict(
    crop_scale=(0.2, 1.0),
    crop_ratio=(0.5, 2.0),
    flip=0.5,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.2,
    grayscale=0.2,
    blur=0.5,
)
CROPS = {key: EVERYTHING[key] for key in ("crop_scale", "crop_ratio", "flip")}

jitted_views = jax.jit(make_views, static_argnums=(1, 2))


def canvases(count, side, seed=0):
    """Returns images, in turn smooth like photographs and noise."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, side, side, 3), np.uint8)
    for image in images[::2]:
        coarse = rng.integers(0, 256, (8, 8, 3), np.uint8)
        smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
        image[:] = np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255)
    return images


def draws(count, side, augment, seed=1):
    rng = np.random.default_rng(seed)
    return [views.sample_view(rng, side, side, OFF | augment) for _ in range(count)]


def numbers(drawn):
    return np.stack([views.numbers(view) for view in drawn])


def differences(side, size, augment, interpolation="bicubic", count=32):
    """Returns absolute differences in levels of 255: [count, *size, 3]."""
    images, drawn = canvases(count, side), draws(count, side, augment)
    host = [
        views.apply_view(image, view, size, interpolation)
        for image, view in zip(images, drawn, strict=True)
    ]
    batch = {"canvas": images, "view1": {"drawn": numbers(drawn)}}
    device = np.asarray(jitted_views(batch, size, interpolation)["view1"]["image"])
    assert device.dtype == np.uint8
    return np.abs(device.astype(int) - np.stack(host))


def test_the_columns_are_those_of_the_host():
    assert views.ViewParameters._fields == (*DRAWN, "seed")


# Larger, smaller (a little: bilinear; much: by area), both at once, and not square.
@pytest.mark.parametrize("size", [(64, 64), (48, 40), (24, 24), (80, 100)])
@pytest.mark.parametrize(
    ("interpolation", "mean"), [("bicubic", 0.06), ("bilinear", 0.15)]
)
def test_scaling_is_that_of_the_host(size, interpolation, mean):
    """OpenCV's bilinear truncates sums that are rounded here: an eighth of a level."""
    difference = differences(64, size, CROPS, interpolation)
    assert difference.max() <= 1 and difference.mean() < mean


def test_nearest_is_that_of_the_host():
    assert differences(64, (64, 64), CROPS, "nearest").max() == 0
    # Halfway between two pixels, the rounding error of OpenCV's division decides.
    assert (differences(64, (80, 100), CROPS, "nearest") > 0).mean() < 0.01


@pytest.mark.parametrize(
    ("key", "greatest", "mean"),
    [
        ("flip", 0, 0),
        ("brightness", 1, 0.001),
        ("contrast", 1, 0.001),
        # OpenCV has 10 binary digits for the matrix.
        ("saturation", 1, 0.08),
        ("hue", 1, 0.08),
        ("grayscale", 1, 0.01),
        ("blur", 0, 0),
    ],
)
def test_each_operation_is_that_of_the_host(key, greatest, mean):
    difference = differences(64, (64, 64), {key: EVERYTHING[key]})
    assert difference.max() <= greatest and difference.mean() <= mean


@pytest.mark.parametrize("size", [(64, 64), (48, 40), (24, 80)])
def test_all_operations_together(size):
    """A level of difference after scaling grows with contrast and saturation."""
    difference = differences(64, size, EVERYTHING, count=64)
    assert difference.max() <= 4 and (difference > 2).mean() < 1e-4
    assert difference.mean() < 0.12 and difference.mean(axis=(1, 2, 3)).max() < 0.3


def test_the_released_augmentation():
    recipe = dict(crop_scale=(0.8, 1.0), flip=0.5, brightness=0.1)
    difference = differences(224, (224, 224), recipe, count=8)
    assert difference.max() <= 2 and difference.mean() < 0.06


@pytest.mark.parametrize("sigma", [0.1, 0.45, 1.0, 3.0, 9.0])
def test_blur_is_that_of_opencv_to_the_bit(sigma):
    images = canvases(4, 40)
    view = views.ViewParameters(0, 0, 40, 40, blur_sigma=sigma)
    batch = {"canvas": images, "view1": {"drawn": numbers([view] * 4)}}
    for device, image in zip(
        jitted_views(batch, (40, 40), "bicubic")["view1"]["image"], images, strict=True
    ):
        assert (device == cv2.GaussianBlur(image, (0, 0), sigma)).all()


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest"])
def test_without_drawn_operations_images_are_unchanged(interpolation):
    images = canvases(4, 48)
    whole = numbers([views.ViewParameters(0, 0, 48, 48)] * 4)
    batch = {"canvas": images, "view1": {"drawn": whole}}
    device = jitted_views(batch, (48, 48), interpolation)["view1"]["image"]
    assert (device == images).all()


def both_views(count=16):
    first, second = (draws(count, 32, EVERYTHING, seed) for seed in (1, 2))
    text = np.arange(3 * count, dtype=np.int32).reshape(count, 3)
    return {
        "canvas": canvases(count, 32),
        "view1": {"drawn": numbers(first), "text": text},
        "view2": {"drawn": numbers(second), "text": text},
        "index": np.arange(count),
    }


def test_other_entries_of_a_batch_are_kept():
    batch = both_views()
    result = jitted_views(batch, (32, 24), "bicubic")
    assert set(result) == {"view1", "view2", "index"}
    for name in ("view1", "view2"):
        assert set(result[name]) == {"image", "text"}
        assert result[name]["image"].shape == (16, 32, 24, 3)
        assert (result[name]["text"] == batch[name]["text"]).all()
    assert (result["view1"]["image"] != result["view2"]["image"]).any()
    assert "canvas" in batch and "drawn" in batch["view1"]


def test_a_batch_with_images_is_returned_unchanged():
    batch = {"view1": {"image": canvases(2, 8), "text": np.zeros((2, 3), np.int32)}}
    assert make_views(batch, (8, 8), "bicubic") is batch


def test_there_are_no_gathers():
    lowered = jitted_views.lower(both_views(), (24, 40), "bicubic")
    assert "dot_general" in str(lowered.as_text())
    assert "gather" not in str(lowered.as_text())
    assert "gather(" not in str(lowered.compile().as_text())


def test_eight_devices_make_the_same_views():
    batch = both_views()
    alone = jax.device_get(jitted_views(batch, (32, 32), "bicubic"))
    mesh = sharding.make_mesh(data=2, fsdp=2, dcn=2)
    split = sharding.put(batch, mesh)
    result = jitted_views(split, (32, 32), "bicubic")
    image = result["view1"]["image"]
    assert image.sharding.is_equivalent_to(sharding.batch_sharding(mesh), image.ndim)
    for name in ("view1", "view2"):
        assert (np.asarray(result[name]["image"]) == alone[name]["image"]).all()
    # Devices exchange nothing but whether there is any blur.
    compiled = str(jitted_views.lower(split, (32, 32), "bicubic").compile().as_text())
    assert "all-to-all" not in compiled and "all-gather" not in compiled


def test_batches_of_a_run_are_the_same_from_host_and_device():
    config = load_config("clipin_coco:runlocal")
    batches_of = []
    for where in ("host", "device"):
        data = config.data.copy_and_resolve_references()
        with data.unlocked():
            data.augment_on = where
        batches = TrainBatches(data, seed=0, batch_size=8)
        batch = next(batches)
        batches.close()
        batches_of.append(jitted_views(batch, tuple(data.image_size), "bicubic"))
    for host, device in zip(*map(jax.tree.leaves, batches_of), strict=True):
        assert host.dtype == device.dtype
        difference = np.abs(np.asarray(host).astype(int) - np.asarray(device))
        assert difference.max() <= 2 and difference.mean() < 0.1
