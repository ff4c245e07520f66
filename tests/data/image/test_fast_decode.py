"""Decoding for training: no larger than needed, as exact as Pillow."""

import io

import numpy as np
import pytest
from PIL import Image

from clipin_jax.data import make_source
from clipin_jax.data.image import views
from clipin_jax.data.image.decode import decode, open_image
from clipin_jax.data.samples import SampleMaker
from clipin_jax.data.source import BadRecord
from clipin_jax.data.text import make_tokenizer
from tests.data.image.test_views import packed, smooth_image
from tests.data.test_pipeline import config


def photo(height=480, width=640):
    """An image with shapes of every size, and edges."""
    rows, columns = np.mgrid[0.0 : 1.0 : height * 1j, 0.0 : 1.0 : width * 1j]
    waves = [np.sin(2**n * (3 * rows + n * columns)) / n for n in range(1, 6)]
    luma = 127 + 60 * sum(waves) / 2 + 40 * (rows + columns > 1)
    image = np.stack([luma, luma[::-1], luma[:, ::-1]], axis=-1)
    return image.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.3, 0.5, 0.51, 1.0])
def test_the_decoded_size(share):
    image = open_image(packed(Image.fromarray(photo()), "JPEG"))
    assert (image.height, image.width) == (480, 640)
    height, width, _ = image.pixels(share).shape
    assert height >= share * 480 and width >= share * 640
    assert height <= (share + 1 / 8) * 480 if share <= 0.5 else height == 480


def mean_difference(first, second):
    return np.abs(first.astype(int) - second.astype(int)).mean()


@pytest.mark.parametrize("subsampling", [0, 2])
def test_scaled_images_are_close_to_those_that_pillow_shrinks(subsampling):
    data = packed(Image.fromarray(photo()), "JPEG", quality=90, subsampling=subsampling)
    whole = Image.open(io.BytesIO(data))
    for size in ((60, 80), (120, 160), (240, 320)):
        expected = np.asarray(whole.resize(size[::-1], Image.Resampling.BOX))
        scaled = open_image(data).pixels(size[0] / 480)
        assert scaled.shape == (*size, 3)
        assert mean_difference(scaled, expected) < 1.0
    assert mean_difference(open_image(data).pixels(), decode(data)) < 0.5


def test_views_of_a_scaled_image_are_those_of_the_whole():
    data = packed(Image.fromarray(photo()), "JPEG", quality=95)
    augment = config().augment.to_dict()
    rng = np.random.default_rng(0)
    for _ in range(20):
        view = views.sample_view(rng, 480, 640, augment)._replace(blur_sigma=0.0)
        whole = views.apply_view(decode(data), view, (64, 64))
        image = open_image(data)
        pixels = image.pixels(views.needed_share([view], (64, 64)))
        scale = pixels.shape[0] / 480, pixels.shape[1] / 640
        assert max(scale) < 1
        shrunk = views.apply_view(pixels, views.scaled(view, *scale), (64, 64))
        assert mean_difference(whole, shrunk) < 3.0


@pytest.mark.parametrize("side", [0, 32])
def test_scaled_decoding_changes_no_view(side, tmp_path):
    """The same pixels as a JPEG, which is scaled, and as a PNG, which is not."""
    source = make_source(name="scenes", length=2)
    jpeg = packed(Image.fromarray(photo()), "JPEG", quality=95)
    png = packed(Image.fromarray(decode(jpeg)), "PNG")
    data = config(image_size=(32, 32))
    data.augment.resize_first = side
    maker = SampleMaker(source, make_tokenizer(context_length=20), data, seed=0)
    for position in range(10):
        first, second = (
            maker._make(position, {"image": image, "captions": ("a",)}, None)
            for image in (jpeg, png)
        )
        for name in ("view1", "view2"):
            assert mean_difference(first[name]["image"], second[name]["image"]) < 3.0


def test_rotated_and_unusual_files_are_decoded_by_pillow():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = packed(Image.fromarray(photo(48, 64)), "JPEG", exif=exif)
    cmyk = packed(Image.new("CMYK", (64, 48), (0, 255, 255, 0)), "JPEG")
    png = packed(Image.fromarray(photo(48, 64)), "PNG")
    for data, size in ((turned, (64, 48)), (cmyk, (48, 64)), (png, (48, 64))):
        image = open_image(data)
        assert (image.height, image.width) == size and not image.scalable
        assert (image.pixels(0.2) == decode(data)).all()
    plain = packed(Image.fromarray(photo(48, 64)), "JPEG", exif=Image.Exif())
    assert open_image(plain).scalable


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("side", "message"),
    [(12_000, "12000 x 12000 pixels, more than 80,000"), (20_000, "400000000 pixels")],
)
def test_a_decompression_bomb_is_refused_by_its_header(side, message):
    data = packed(Image.new("1", (side, side)), "PNG")
    assert len(data) < 100_000
    for read in (open_image, decode):
        with pytest.raises(BadRecord, match=message):
            read(data)


def test_the_limit_is_that_of_the_config():
    small = packed(Image.fromarray(smooth_image()), "JPEG")
    with pytest.raises(BadRecord, match="48 x 64 pixels, more than 3,000 in all"):
        open_image(small, max_pixels=3000)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (5000, 2)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_extreme_sizes(size, kind):
    data = packed(Image.new("RGB", size[::-1], (10, 200, 30)), kind)
    image = open_image(data)
    assert (image.height, image.width) == size
    augment = config().augment.to_dict()
    view = views.sample_view(np.random.default_rng(1), *size, augment)
    pixels = image.pixels(views.needed_share([view], (16, 16)))
    scale = pixels.shape[0] / size[0], pixels.shape[1] / size[1]
    made = views.apply_view(pixels, views.scaled(view, *scale), (16, 16))
    assert made.shape == (16, 16, 3) and made[..., 1].min() > 100


def test_damage_behind_the_header():
    data = bytearray(packed(Image.fromarray(photo()), "JPEG", quality=90))
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    image = open_image(bytes(data))
    try:
        assert image.pixels(0.3).ndim == 3  # as Pillow reads it
    except BadRecord as error:
        assert str(error)
