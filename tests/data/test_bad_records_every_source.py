"""Every source with every bad record: each is counted, or refused in one line.

Training and `clipin data check` count the same ones.
"""

import contextlib
import io
import json
import signal

import numpy as np
import pytest
from PIL import Image

from clipin_jax.data import make_source
from clipin_jax.data.pipeline import TrainBatches
from clipin_jax.data.text import caption_tokenizer
from clipin_jax.datatools.record_scan import RecordReader, scan_records
from tests.data.image.test_views import packed
from tests.data.test_pipeline import config
from tests.support.format_writers import CLASS_WRITERS, WRITERS, Pair, write_pairs
from tests.support.pair_folders import encoded_image

CLASSES = ("cat", "chair")
SECONDS = 60  # of one source; a test that takes longer hangs
MOST_LETTERS = 250  # of a reason

NOISE = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
GRAY = NOISE[..., 0]


def animation():
    frames = [Image.fromarray(NOISE), Image.fromarray(255 - NOISE)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


def bomb(content):
    """Returns a PNG whose header claims 4,000 million pixels."""
    import zlib

    header = b"IHDR" + (65_000).to_bytes(4) * 2 + content[24:29]
    return content[:12] + header + zlib.crc32(header).to_bytes(4) + content[33:]


PNG, JPEG = packed(Image.fromarray(NOISE), "PNG"), encoded_image(99)
GOOD_IMAGES = {
    "one pixel": packed(Image.new("RGB", (1, 1)), "PNG"),
    "an animation": animation(),
    "CMYK": packed(Image.fromarray(NOISE).convert("CMYK"), "JPEG"),
    "16 bits": packed(Image.fromarray(GRAY.astype(np.uint16) * 257), "PNG"),
    "transparent": packed(Image.fromarray(NOISE).convert("RGBA"), "WEBP"),
}
BAD_IMAGES = {
    "empty": b"",
    "HTML": b"<!DOCTYPE html><html>404</html>",
    "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "text": b"no image " * 50,
    "zeros": bytes(500),
    "a truncated JPEG": JPEG[: len(JPEG) // 2],
    "a truncated PNG": PNG[: len(PNG) // 2],
    "only a signature": PNG[:8],
    "a bomb": bomb(PNG),
    "12 of 16 bits": packed(Image.fromarray(GRAY.astype(np.uint16) * 16), "PNG"),
    "floats": packed(Image.fromarray(GRAY.astype(np.float32)), "TIFF"),
}
GOOD_CAPTIONS = {
    "100,000 letters": "x" * 100_000,
    "20,000 words": "word " * 20_000,
    "a zero byte": "a\0b",
    "a list": '["one", "two"]',
    "an entity": "&lt;b&gt;",
    "quotes": 'a "big", red\tdog',
    "no list": "[sic] a dog",
}
BAD_CAPTIONS = {
    "nothing": "",
    "spaces": " \t ",
    "a byte order mark": "\ufeff",
    "a space of HTML": "&nbsp;",
    "zero width": "\u200b\u2060",
    "an object": '{"caption": "a dog"}',
}
# Only these formats can hold them.
TYPED = ("coco", "karpathy", "json_list", "table:jsonl", "webdataset", "caption_files")
BAD_VALUES = {"null": None, "a number": 7, "an inner object": {"a": 1}}
IN_FILES = ("auto", "coco", "karpathy", "json_list", "table:csv", "table:tsv",
            "table:jsonl", "caption_files", "image_folder")  # fmt: skip
WITH_CAPTIONS = [name for name in WRITERS if name != "image_folder"]
ENCODED = [*WRITERS, *(name for name in CLASS_WRITERS if name != "npz")]


@contextlib.contextmanager
def limited():
    """Fails the test if the block takes too long."""

    def stop(*_):
        pytest.fail(f"more than {SECONDS} s")  # a TimeoutError would be a bad record

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def pair(number, captions=None):
    text = f"a {CLASSES[number % 2]}, number {number}"
    return Pair(encoded_image(number), captions or (text,), number % 2)


def with_images(images):
    """Returns a pair for each image, and a name for it."""
    named = {f"plain {number}": encoded_image(number) for number in range(4)} | images
    return named, [
        pair(number)._replace(image=image)
        for number, image in enumerate(named.values())
    ]


def with_captions(captions):
    named = {f"plain {n}": f"a cat, number {n}" for n in range(4)} | captions
    pairs = [pair(number, (text,)) for number, text in enumerate(named.values())]
    return {name: p.image for name, p in zip(named, pairs, strict=True)}, pairs


def good_names(arguments, images, folder):
    """Reads all records by training and by `check`; returns the names of good ones."""
    data = config(source=arguments, shuffle=False, max_bad_fraction=1.0)
    with limited():
        source = make_source(**arguments)
        listed = folder / "bad_records.jsonl"
        batches = TrainBatches(data, seed=0, batch_size=len(source), bad_records=listed)
        next(batches)
        batches.close()
        reader = RecordReader(source, caption_tokenizer(data), data)
        scan = scan_records(
            source, reader, records=0, threads=1, progress=lambda *_: None
        )
    lines = listed.read_text().splitlines() if listed.exists() else []
    entries = [json.loads(line) for line in lines]
    assert all(0 < len(entry["reason"]) <= MOST_LETTERS for entry in entries)
    assert all(len(entry["where"]) <= 2 * MOST_LETTERS for entry in entries)
    bad = {entry["index"] for entry in entries}
    assert batches.bad_records == len(bad) == scan.unusable
    assert bad == set(range(len(source))) - set(scan.index)
    names = {content: name for name, content in images.items()}
    return {names[bytes(source[index]["image"])] for index in scan.index}


def write(name, folder, pairs):
    try:
        return write_pairs(name, folder / "data", pairs, CLASSES)
    except ImportError as error:
        pytest.skip(f"no records of {name} without {error.name}")


@pytest.mark.parametrize("name", ENCODED)
def test_bad_images_are_counted(tmp_path, name):
    images, pairs = with_images(GOOD_IMAGES | BAD_IMAGES)
    arguments = write(name, tmp_path, pairs)
    assert good_names(arguments, images, tmp_path) == images.keys() - BAD_IMAGES.keys()


@pytest.mark.parametrize("name", WITH_CAPTIONS)
def test_bad_captions_are_counted(tmp_path, name):
    captions = GOOD_CAPTIONS | BAD_CAPTIONS
    if name in TYPED:
        captions |= BAD_VALUES
    images, pairs = with_captions(captions)
    arguments = write(name, tmp_path, pairs)
    expected = {n for n in images if n.startswith("plain")} | GOOD_CAPTIONS.keys()
    assert good_names(arguments, images, tmp_path) == expected


@pytest.mark.parametrize("name", IN_FILES)
def test_missing_images_are_counted(tmp_path, name):
    images, pairs = with_images({})
    arguments = write(name, tmp_path, pairs)
    lost = next((tmp_path / "data").rglob("*00002.jpg"))
    lost.unlink()
    lost.symlink_to("nowhere.jpg")
    assert good_names(arguments, images, tmp_path) == images.keys() - {"plain 2"}
