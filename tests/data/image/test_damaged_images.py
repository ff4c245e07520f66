"""Damaged files of every image format: pixels, or a bad record with a reason."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipin_jax.data.image.decode import decode, open_image
from clipin_jax.data.source import BadRecord
from tests.data.image.test_views import packed, smooth_image
from tests.support.damage import damaged_bytes

MOST_PIXELS = 1 << 20  # damage may enlarge the size that a header states
SMALL = Image.fromarray(smooth_image(12, 20))
DEEP = Image.fromarray(np.arange(240, dtype=np.uint16).reshape(12, 20) * 270)


def oriented():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


IMAGES = {
    "JPEG": packed(SMALL, "JPEG"),
    "JPEG in steps": packed(SMALL, "JPEG", progressive=True, exif=oriented()),
    "JPEG of inks": packed(SMALL.convert("CMYK"), "JPEG"),
    "PNG": packed(SMALL, "PNG", exif=oriented()),
    "PNG of 16 bits": packed(DEEP, "PNG"),
    "PNG of a palette": packed(SMALL.quantize(8), "PNG", transparency=0),
    "GIF": packed(SMALL, "GIF", save_all=True, append_images=[SMALL.rotate(180)]),
    "BMP": packed(SMALL, "BMP"),
    "WebP": packed(SMALL, "WEBP", exif=oriented()),
    "WebP without loss": packed(SMALL.convert("RGBA"), "WEBP", lossless=True),
    "AVIF": packed(SMALL, "AVIF", exif=oriented()),
    "TIFF": packed(SMALL, "TIFF", exif=oriented()),
    "TIFF, packed": packed(SMALL, "TIFF", compression="tiff_lzw"),
    "TIFF of 16 bits": packed(DEEP, "TIFF"),
    "TIFF of numbers": packed(
        Image.fromarray(smooth_image(12, 20)[..., 0].astype(np.float32)),
        "TIFF",
        tiffinfo={340: 0.0, 341: 255.0},
    ),
    "JPEG 2000": packed(SMALL, "JPEG2000"),
    "PPM": packed(SMALL, "PPM"),
    "PGM of 16 bits": packed(DEEP, "PPM"),
    "text": b"P3\n2 1\n255\n1 2 3 4 5 6\n",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", IMAGES)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_damaged_image_is_pixels_or_a_bad_record(name, data):
    content = data.draw(damaged_bytes(IMAGES[name]))
    for read in (
        lambda: decode(content, MOST_PIXELS),
        lambda: open_image(content, MOST_PIXELS).pixels(),
        lambda: open_image(content, MOST_PIXELS).pixels(share=0.3),
    ):
        try:
            pixels = read()
        except BadRecord as error:
            assert str(error)
            continue
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
        assert 0 < pixels.size <= 3 * MOST_PIXELS


def test_postscript_is_not_run(monkeypatch, tmp_path):
    (tmp_path / "gs").write_text(f"#!/bin/sh\n: > {tmp_path}/ran\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadRecord, match="Ghostscript"):
        decode(packed(SMALL, "EPS"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", IMAGES)
def test_the_images_are_read(name):
    with Image.open(io.BytesIO(IMAGES[name])) as image:
        width, height = image.size
    assert sorted(decode(IMAGES[name]).shape) == sorted((height, width, 3))
