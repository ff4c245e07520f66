"""Training and evaluation turn an image equally, whatever states its orientation."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from clipin_jax.data.image.decode import decode, open_image
from tests.data.image.test_fast_decode import photo
from tests.data.image.test_views import packed

_ORIENTATION = 0x0112
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="{}"/>'
    "</x:xmpmeta>"
)


def _exif(orientation):
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    return exif


def _jpeg(orientation):
    image, exif = Image.fromarray(photo(48, 144)), _exif(orientation)
    return packed(image, "JPEG", exif=exif, quality=95, subsampling=0)


def _behind_fill_bytes(orientation):
    data = _jpeg(orientation)
    at = data.index(b"\xff\xe1")
    return data[:at] + b"\xff\xff\xff" + data[at:]


def _xmp_jpeg(orientation):
    image = Image.fromarray(photo(48, 144))
    xmp = _XMP.format(orientation).encode()
    return packed(image, "JPEG", xmp=xmp, quality=95, subsampling=0)


def _png(orientation):
    return packed(Image.fromarray(photo(48, 144)), "PNG", exif=_exif(orientation))


def _xmp_png(orientation):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", _XMP.format(orientation))
    return packed(Image.fromarray(photo(48, 144)), "PNG", pnginfo=info)


def _webp(orientation):
    image = Image.fromarray(photo(48, 144))
    return packed(image, "WEBP", exif=_exif(orientation), lossless=True)


def _tiff(orientation):
    tags = {_ORIENTATION: orientation}
    return packed(Image.fromarray(photo(48, 144)), "TIFF", tiffinfo=tags)


def _deflated_tiff(orientation):
    image, tags = Image.fromarray(photo(48, 144)), {_ORIENTATION: orientation}
    return packed(image, "TIFF", tiffinfo=tags, compression="tiff_adobe_deflate")


def _xmp_tiff(orientation):
    tags = {700: _XMP.format(orientation).encode()}
    return packed(Image.fromarray(photo(48, 144)), "TIFF", tiffinfo=tags)


FILES = (
    _jpeg, _behind_fill_bytes, _xmp_jpeg, _png, _xmp_png, _webp, _tiff,
    _deflated_tiff, _xmp_tiff,
)  # fmt: skip


@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 7, 8])
@pytest.mark.parametrize("file", FILES)
def test_all_readers_turn_alike(file, orientation):
    plain = Image.fromarray(photo(48, 144))
    plain.getexif()[_ORIENTATION] = orientation
    expected = np.asarray(ImageOps.exif_transpose(plain))
    data = file(orientation)
    image = open_image(data)
    assert (image.height, image.width) == expected.shape[:2]
    for pixels in (image.pixels(), image.pixels(1.0), decode(data)):
        assert pixels.shape == expected.shape
        assert np.abs(pixels.astype(int) - expected).mean() < 4


def test_a_damaged_orientation_is_ignored():
    data = bytearray(_jpeg(6))
    at = data.index(b"Exif\0\0") + 6
    data[at : at + 4] = b"junk"
    image = open_image(bytes(data))
    assert (image.height, image.width) == (48, 144)
    assert image.pixels().shape == decode(bytes(data)).shape


def test_the_header_of_a_png_is_read_without_its_pixels():
    data = packed(Image.fromarray(photo(48, 144)), "PNG")
    cut = data[: len(data) // 2]  # decoding would raise an error
    assert open_image(cut).height == 48
    assert Image.open(io.BytesIO(cut)).size == (144, 48)
