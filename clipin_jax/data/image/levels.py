"""Reduces samples of more than 8 bits to the 256 levels that a person would see.

The file gives the range: TIFF by SMinSampleValue and SMaxSampleValue, or by an unusual
BitsPerSample; PNG by sBIT. Without these, unsigned samples fill their 16 or 32 bits.
Samples that use less than a quarter of that range, and signed or floating ones without
a range, would be shown black or gray: such a file is a bad record.
TIFF 6.0, sections 8 and 19; PNG specification (third edition), 11.3.2.4.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from clipin_jax.data.source import BadRecord

_BITS, _PHOTOMETRIC, _FORMAT, _LEAST, _GREATEST = 258, 262, 339, 340, 341
_WHITE_IS_ZERO = 0
_UNSIGNED, _SIGNED = 1, 2
_FULL = (16, 32)  # bits of a container, which its samples may not fill
_REMEDY = "write it with 8 bits"
_TIFF_REMEDY = "give SMinSampleValue and SMaxSampleValue, or write it with 8 bits"
_PNG_REMEDY = "give the bits in a chunk sBIT, or write it with 8 bits"


class _Samples(NamedTuple):
    """What a file states of its samples.

    low, high: the values of black and white; None if it does not state them.
    bits: of the container.
    format: of TIFF: 1 unsigned, 2 signed, 3 floating.
    inverted: whether the lowest value is white.
    remedy: what to do if the range is missing.
    """

    low: float = 0
    high: float | None = None
    bits: int = 16
    format: int = _UNSIGNED
    inverted: bool = False
    remedy: str = _REMEDY


def is_deep(image: Image.Image) -> bool:
    """Tells whether the samples of an image of one channel need `reduce_levels`."""
    return image.mode[0] in "IF" or _tag(image, _FORMAT, _UNSIGNED) == _SIGNED


def reduce_levels(samples: np.ndarray, image: Image.Image, data: bytes) -> np.ndarray:
    """Reduces the samples of one channel to 8 bits.

    Args:
      samples: [H, W], of any number type.
      image: the open image, before it was turned.
      data: its file.

    Returns:
      [H, W] uint8, 0 for black and 255 for white.

    Raises:
      BadRecord: the file does not state the range of its samples.
    """
    stated = _stated(image, data, samples)
    if stated.bits == 8 and stated.format == _SIGNED:
        samples = samples.view(np.int8)
    if stated.bits == 32 and stated.format == _UNSIGNED:
        samples = samples.view(np.uint32)
    levels = _scale(samples, stated)
    if isinstance(transparent := image.info.get("transparency"), int):
        levels[samples == transparent] = 255
    return levels


def reduce_array(pixels: np.ndarray) -> np.ndarray:
    """Reduces uint16 pixels to uint8. Raises BadRecord if they do not fill 16 bits."""
    remedy = "scale the pixels to 16 bits, or to 8"
    _check_filled(pixels[..., :3] if pixels.ndim == 3 else pixels, 16, remedy)
    return (pixels >> 8).astype(np.uint8)


def check_colours(image: Image.Image, data: bytes) -> None:
    """Checks that colours of 16 bits fill them; Pillow keeps the upper 8.

    Raises:
      BadRecord: they do not.
    """
    bits = _tag(image, _BITS, 8)
    if image.format == "PNG":
        bits = data[24]  # in the header
    if bits != 16 or image.mode not in ("RGB", "RGBA", "LA", "La"):
        return
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is not None and samples.dtype == np.uint16 and samples.ndim == 3:
        _check_filled(samples[..., :3], bits, _REMEDY)


def _stated(image: Image.Image, data: bytes, samples: np.ndarray) -> _Samples:
    if hasattr(image, "tag_v2"):
        return _stated_by_tiff(image)
    if image.format == "PNG":
        bits = _significant_bits(data)
        unused = (1 << (16 - bits)) - 1
        # As the specification has it, the bits are the upper ones. Many writers put
        # them into the lower ones.
        if bits < 16 and samples.max() < 1 << bits and (samples & unused).any():
            return _Samples(high=(1 << bits) - 1)
        return _Samples(remedy=_PNG_REMEDY, high=65535 if bits < 16 else None)
    if image.mode == "F" or samples.min() < 0 or samples.max() > 65535:
        return _Samples(format=3 if image.mode == "F" else _SIGNED)
    return _Samples()


def _stated_by_tiff(image: Image.Image) -> _Samples:
    bits, kind = _tag(image, _BITS, 8), _tag(image, _FORMAT, _UNSIGNED)
    low, high = _tag(image, _LEAST, None), _tag(image, _GREATEST, None)
    if high is None and kind == _UNSIGNED and bits not in _FULL:
        high = (1 << bits) - 1
    if kind == _SIGNED and low is None:
        high = None
    return _Samples(
        low=low or 0,
        high=high,
        bits=bits,
        format=kind,
        inverted=_tag(image, _PHOTOMETRIC, 1) == _WHITE_IS_ZERO,
        remedy=_TIFF_REMEDY,
    )


def _significant_bits(data: bytes) -> int:
    """Returns the bits that a PNG states in sBIT, before its pixels; else 16."""
    at = 8
    while (kind := data[at + 4 : at + 8]) and kind != b"IDAT":
        length = int.from_bytes(data[at : at + 4])
        if kind == b"sBIT" and length and 0 < data[at + 8] < 16:
            return data[at + 8]
        at += length + 12
    return 16


def _scale(samples: np.ndarray, stated: _Samples) -> np.ndarray:
    low, high = stated.low, stated.high
    if high is None:
        if stated.format != _UNSIGNED:
            kind = "signed" if stated.format == _SIGNED else "floating-point"
            raise BadRecord(
                f"{kind} samples, from {samples.min():.6g} to {samples.max():.6g}, "
                f"without a range: {stated.remedy}"
            )
        _check_filled(samples, stated.bits, stated.remedy)
        high = (1 << stated.bits) - 1
    if not high > low:
        raise BadRecord(f"samples range from {low} to {high}: {stated.remedy}")
    if (low, high) == (0, 65535):
        levels = (samples.astype(np.uint16) >> 8).astype(np.uint8)
    else:
        share = (samples.astype(np.float64) - low) / (high - low)
        levels = np.rint(255 * np.nan_to_num(share).clip(0, 1)).astype(np.uint8)
    return 255 - levels if stated.inverted else levels


def _check_filled(samples: np.ndarray, bits: int, remedy: str) -> None:
    """Checks that the largest sample is in the upper three quarters, or 0."""
    top = int(samples.max())
    if 0 < top < 1 << (bits - 2):
        raise BadRecord(f"{bits}-bit samples up to {top} only, nearly black: {remedy}")


def _tag(image: Image.Image, tag: int, default: Any) -> Any:
    """Returns the first value of a tag of a TIFF, or the default."""
    value = getattr(image, "tag_v2", {}).get(tag, default)
    return value[0] if isinstance(value, tuple) and value else value
