"""Samples of more than 8 bits come out as a person would see them, or are refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from clipin_jax.data.image.decode import decode, open_image
from clipin_jax.data.source import BadRecord
from tests.data.image.test_views import packed

RAMP = np.linspace(0, 1, 64)[None].repeat(8, 0)
EXPECTED = 255 * RAMP
_BITS, _PHOTOMETRIC, _FORMAT, _LEAST, _GREATEST = 258, 262, 339, 340, 341
_DOUBLE, _SHORT, _SIGNED_SHORT, _SIGNED_LONG = 12, 3, 8, 9


def tiff(samples, **options):
    """Returns a TIFF of samples; `tags` are values by number, or (type, value)."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    directory = ImageFileDirectory_v2()
    for tag, value in options.pop("tags", {}).items():
        if isinstance(value, tuple):
            directory.tagtype[tag], value = value
        directory[tag] = value
    return packed(Image.fromarray(samples), "TIFF", tiffinfo=directory, **options)


def png(samples, bits=0):
    """Returns a PNG, with `bits` in sBIT."""
    data = packed(Image.fromarray(samples), "PNG")
    if not bits:
        return data
    body = b"sBIT" + bytes([bits])
    chunk = struct.pack(">I", 1) + body + struct.pack(">I", zlib.crc32(body))
    return data[:33] + chunk + data[33:]


def raw_tiff(samples, bits, kind, photometric=1):
    """Returns an uncompressed little-endian TIFF that Pillow cannot write."""
    height, width = samples.shape
    content = samples.tobytes()
    entries = [
        (256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1),
        (262, 3, photometric), (273, 4, 8), (277, 3, 1), (278, 4, height),
        (279, 4, len(content)), (339, 3, kind),
    ]  # fmt: skip
    table = b"".join(struct.pack("<HHII", t, k, 1, v) for t, k, v in entries)
    start = struct.pack("<2sHI", b"II", 42, 8 + len(content))
    return start + content + struct.pack("<H", len(entries)) + table + bytes(4)


HOUNSFIELD = np.rint(RAMP * 4095 - 1024)
RANGED = {
    "float": tiff(RAMP.astype(np.float32), tags={_GREATEST: (_DOUBLE, 1.0)}),
    "float of 255": tiff(
        (255 * RAMP).astype(np.float32),
        tags={_LEAST: (_DOUBLE, 0.0), _GREATEST: (_DOUBLE, 255.0)},
    ),
    "12 in 16": tiff((RAMP * 4095).astype(np.uint16), tags={_GREATEST: (_SHORT, 4095)}),
    "8 in 32": tiff(
        (RAMP * 255).astype(np.int32),
        tags={_LEAST: (_SIGNED_LONG, 0), _GREATEST: (_SIGNED_LONG, 255)},
    ),
    "Hounsfield": tiff(
        HOUNSFIELD.astype(np.int32),
        tags={_LEAST: (_SIGNED_LONG, -1024), _GREATEST: (_SIGNED_LONG, 3071)},
    ),
    "16": tiff((RAMP * 65535).astype(np.uint16)),
    "32": raw_tiff((RAMP * (2**32 - 1)).astype(np.uint32), 32, 1),
    "white is zero": raw_tiff(((1 - RAMP) * 65535).astype(np.uint16), 16, 1, 0),
    "PNG of 12 upper bits": png((RAMP * 4095).astype(np.uint16) << 4, 12),
    "PNG of 12 lower bits": png((RAMP * 4095).astype(np.uint16), 12),
    "PNG of 10 lower bits": png((RAMP * 1023).astype(np.uint16), 10),
    "PNG of 16": png((RAMP * 65535).astype(np.uint16)),
}


@pytest.mark.parametrize("name", RANGED)
def test_a_stated_range_becomes_256_levels(name):
    for levels in (decode(RANGED[name]), open_image(RANGED[name]).pixels(0.5)):
        assert levels.shape == (8, 64, 3) and levels.dtype == np.uint8
        assert np.abs(levels - EXPECTED[..., None]).max() <= 1


UNRANGED = {
    "floating-point samples, from 0 to 1, without a range": tiff(
        RAMP.astype(np.float32)
    ),
    "floating-point samples, from 0 to 255": tiff((255 * RAMP).astype(np.float32)),
    "signed samples, from 0 to 255": tiff((255 * RAMP).astype(np.int32)),
    "signed samples, from -1024 to 3071.*SMaxSampleValue": raw_tiff(
        HOUNSFIELD.astype(np.int16), 16, 2
    ),
    "signed samples, from -128 to 127": raw_tiff(
        np.rint(255 * RAMP - 128).astype(np.int8), 8, 2
    ),
    "32-bit samples up to 255 only": raw_tiff((255 * RAMP).astype(np.uint32), 32, 1),
    "16-bit samples up to 255 only.*sBIT": png((255 * RAMP).astype(np.uint16)),
    "16-bit samples up to 4095 only.*sBIT": png((4095 * RAMP).astype(np.uint16)),
    "16-bit samples up to 1023 only.*SMax": tiff((1023 * RAMP).astype(np.uint16)),
    "16-bit samples up to 4000 only": np.full((8, 8), 4000, np.uint16),
}


@pytest.mark.parametrize("reason", UNRANGED)
def test_without_a_range_the_record_is_bad(reason):
    with pytest.raises(BadRecord, match=reason):
        decode(UNRANGED[reason])
    with pytest.raises(BadRecord, match=reason):
        open_image(UNRANGED[reason]).pixels()


def test_colours_that_do_not_fill_16_bits():
    import cv2

    for top, channels in ((4095, 3), (1023, 3), (4095, 4)):
        pixels = (RAMP * top).astype(np.uint16)[..., None].repeat(channels, -1)
        pixels[..., 3:] = 65535
        data = cv2.imencode(".png", pixels)[1].tobytes()
        with pytest.raises(BadRecord, match=f"16-bit samples up to {top} only"):
            decode(data)
    full = (RAMP * 65535).astype(np.uint16)[..., None].repeat(3, -1)
    levels = decode(cv2.imencode(".png", full)[1].tobytes())
    assert np.abs(levels - EXPECTED[..., None]).max() <= 1


def test_black_stays_black():
    for data in (png(np.zeros((4, 4), np.uint16)), np.zeros((4, 4, 3), np.uint16)):
        assert not decode(data).any()


def test_a_transparent_gray_of_16_bits_is_white():
    image = Image.fromarray((RAMP * 65535).astype(np.uint16))
    levels = decode(packed(image, "PNG", transparency=0))
    assert (levels[:, 0] == 255).all() and (levels[:, 1] == 4).all()


def test_a_portable_graymap_states_its_range():
    pixels = (RAMP * 4095).astype(">u2")
    data = b"P5 64 8 4095\n" + pixels.tobytes()
    assert Image.open(io.BytesIO(data)).mode == "I"
    assert np.abs(decode(data) - EXPECTED[..., None]).max() <= 1
