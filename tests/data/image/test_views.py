"""Decoding, the views of training and the view of evaluation."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from clipin_jax.data.image import views
from clipin_jax.data.image.decode import decode
from clipin_jax.data.source import BadRecord
from clipin_jax.errors import ClipinError

OFF = dict(
    crop_scale=(1.0, 1.0),
    crop_ratio=(1.0, 1.0),
    resize_first=0,
    flip=0.0,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    hue=0.0,
    jitter_probability=1.0,
    grayscale=0.0,
    blur=0.0,
    blur_sigma=(0.1, 2.0),
    transforms={},
    interpolation="bicubic",
)


def smooth_image(height=48, width=64):
    rng = np.random.default_rng(0)
    small = rng.integers(30, 220, (6, 8, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def packed(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def whole(image):
    return views.ViewParameters(0, 0, *image.shape[:2])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_decode_formats(kind):
    image = smooth_image()
    decoded = decode(packed(Image.fromarray(image), kind))
    assert decoded.shape == image.shape and decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - image).mean() < 12


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_decode_rotates_upright(kind):
    image, exif = smooth_image(), Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter, clockwise
    decoded = decode(packed(Image.fromarray(image), kind, exif=exif))
    expected = np.rot90(image, -1)
    assert decoded.shape == expected.shape
    assert np.abs(decoded.astype(int) - expected).mean() < 6


def test_decode_puts_transparency_on_white():
    pixels = np.full((4, 4, 4), (200, 0, 0, 255), np.uint8)
    pixels[:2, :, 3] = 0
    pixels[2, :, 3] = 128
    decoded = decode(packed(Image.fromarray(pixels), "PNG"))
    assert (decoded[0] == 255).all() and (decoded[3] == (200, 0, 0)).all()
    assert np.abs(decoded[2, 0].astype(int) - (227, 127, 127)).max() <= 1
    palette = Image.fromarray(pixels[..., :3]).quantize(4)
    palette.info["transparency"] = palette.getpixel((0, 0))
    assert (decode(packed(palette, "PNG")) == 255).all()


def test_decode_modes():
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for image in (Image.fromarray(gray), Image.fromarray(gray.astype(np.uint16) * 257)):
        decoded = decode(packed(image, "PNG"))
        assert (decoded == gray[..., None]).all() and decoded.shape == (16, 16, 3)
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red = decode(packed(cmyk, "JPEG")).mean(axis=(0, 1))
    assert red[0] > 200 and red[1] < 60 and red[2] < 60
    assert decode(packed(Image.new("1", (8, 8), 1), "PNG")).min() == 255
    assert (decode(gray) == gray[..., None]).all()
    assert (decode(np.zeros((2, 3, 4), np.uint8)) == 255).all()


def test_decode_refuses_damaged_files():
    jpeg = packed(Image.fromarray(smooth_image()), "JPEG")
    png = packed(Image.fromarray(smooth_image()), "PNG")
    damaged = [b"", b"no image", jpeg[: len(jpeg) // 2], jpeg[:20], png[:200]]
    damaged += [np.zeros((4, 4, 3), np.float32), np.zeros((4, 0, 3), np.uint8)]
    damaged += [np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8)]
    for data in damaged:
        with pytest.raises(BadRecord):
            decode(data)


def test_bytes_after_the_image_are_ignored():
    jpeg = packed(Image.fromarray(smooth_image()), "JPEG") + b"trailing"
    assert decode(jpeg).shape == (48, 64, 3)


def test_default_parameters_change_nothing():
    image = smooth_image()
    same = views.apply_view(image, whole(image), (48, 64))
    assert (same == image).all()
    wide = dict(OFF, crop_ratio=(64 / 48, 64 / 48))
    drawn = views.sample_view(np.random.default_rng(0), 48, 64, wide)
    assert drawn == whole(image)


def test_crops_keep_scale_and_ratio():
    augment = dict(OFF, crop_scale=(0.3, 0.6), crop_ratio=(0.5, 2.0))
    rng = np.random.default_rng(0)
    drawn = [views.sample_view(rng, 200, 300, augment) for _ in range(400)]
    area = np.array([view.height * view.width / 60_000 for view in drawn])
    ratio = np.array([view.width / view.height for view in drawn])
    assert 0.295 < area.min() < 0.33 and 0.56 < area.max() < 0.605
    assert 0.49 < ratio.min() < 0.6 and 1.7 < ratio.max() < 2.02
    assert all(view.top + view.height <= 200 for view in drawn)
    assert all(view.left + view.width <= 300 for view in drawn)
    assert max(view.top + view.height for view in drawn) == 200
    assert min(view.left for view in drawn) == 0


def test_crop_of_a_shape_that_never_fits_is_centred():
    drawn = views.sample_view(np.random.default_rng(0), 10, 400, OFF)
    assert drawn[:4] == (0, 195, 10, 10)


def test_shares_of_options():
    augment = dict(OFF, flip=0.5, grayscale=0.2, blur=0.3, brightness=0.4)
    augment["jitter_probability"] = 0.8
    rng = np.random.default_rng(0)
    drawn = [views.sample_view(rng, 64, 64, augment) for _ in range(2000)]
    assert abs(np.mean([view.flip for view in drawn]) - 0.5) < 0.04
    assert abs(np.mean([view.grayscale for view in drawn]) - 0.2) < 0.03
    assert abs(np.mean([view.blur_sigma > 0 for view in drawn]) - 0.3) < 0.04
    assert abs(np.mean([view.brightness != 1 for view in drawn]) - 0.8) < 0.03
    assert all(0.6 <= view.brightness <= 1.4 for view in drawn)
    assert all(view.contrast == view.saturation == 1 for view in drawn)


def test_flip_brightness_and_grayscale():
    image = smooth_image()
    view = whole(image)
    flipped = views.apply_view(image, view._replace(flip=True), (48, 64))
    assert (flipped == image[:, ::-1]).all()
    light = views.apply_view(image, view._replace(brightness=1.1), (48, 64))
    assert np.abs(light - np.minimum(image * 1.1, 255)).max() <= 0.51
    gray = views.apply_view(image, view._replace(grayscale=True), (48, 64))
    assert (gray.max(axis=2) - gray.min(axis=2)).max() <= 1
    luma = image @ np.array([0.299, 0.587, 0.114])
    assert np.abs(gray[..., 0] - luma).max() <= 1


def test_contrast_saturation_and_hue():
    image = smooth_image()
    view = whole(image)

    def luma(pixels):
        return pixels @ np.array([0.299, 0.587, 0.114])

    flat = views.apply_view(image, view._replace(contrast=0.5), (48, 64))
    mean = luma(image).mean()
    assert np.abs(flat - (0.5 * image + 0.5 * mean)).max() <= 1
    pale = views.apply_view(image, view._replace(saturation=0.5), (48, 64))
    assert np.abs(pale - (0.5 * image + 0.5 * luma(image)[..., None])).max() <= 1
    half = views.apply_view(image, view._replace(hue=0.5), (48, 64))
    inside = (half.min(axis=2) > 0) & (half.max(axis=2) < 255)
    assert np.abs(luma(half) - luma(image))[inside].max() <= 1
    full = views.apply_view(image, view._replace(hue=1.0), (48, 64))
    assert np.abs(full.astype(int) - image).max() <= 1


def test_blur_smooths():
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    view = whole(noise)._replace(blur_sigma=2.0)
    assert views.apply_view(noise, view, (32, 32)).std() < 0.3 * noise.std()


def test_shrinking_is_antialiased():
    checks = (np.indices((128, 128)).sum(axis=0) % 2 * 255).astype(np.uint8)
    image = np.repeat(checks[..., None], 3, axis=2)
    small = views.apply_view(image, whole(image), (30, 30))
    assert np.abs(small.astype(int) - 128).max() < 30


def test_resize_first():
    image = smooth_image(40, 80)
    assert views.prepare(image, OFF) is image
    assert views.prepare(image, dict(OFF, resize_first=24)).shape == (24, 24, 3)


@pytest.mark.parametrize("size", [(32, 32), (40, 20), (20, 40), (100, 90)])
@pytest.mark.parametrize("shape", [(48, 64), (64, 48), (33, 97)])
def test_evaluation_view_covers_the_size(size, shape):
    view = views.evaluation_view(smooth_image(*shape), size)
    assert view.shape == (*size, 3) and view.min() > 0


def test_evaluation_view_is_resize_and_centre_crop():
    image = smooth_image(60, 91)
    resized = Image.fromarray(image).resize((48, 32), Image.Resampling.BICUBIC)
    expected = np.asarray(resized)[:, 8:40]
    assert (views.evaluation_view(image, (32, 32)) == expected).all()


def test_evaluation_view_squashes_the_whole_image():
    image = smooth_image(60, 91)
    squashed = Image.fromarray(image).resize((48, 32), Image.Resampling.BILINEAR)
    view = views.evaluation_view(image, (32, 48), "bilinear", views.SQUASH)
    assert (view == np.asarray(squashed)).all()


@pytest.mark.parametrize(
    "wrong",
    [
        dict(flip=1.5),
        dict(brightness=-0.1),
        dict(hue=0.7),
        dict(crop_scale=(0.0, 1.0)),
        dict(crop_ratio=(2.0, 1.0)),
        dict(resize_first=-1),
        dict(interpolation="lanczos"),
    ],
)
def test_invalid_values(wrong):
    with pytest.raises(ClipinError, match=f"data.augment.{next(iter(wrong))}"):
        views.check_augment({**OFF, **wrong})
