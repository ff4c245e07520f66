"""Every source of `SOURCES` reads complete, reproducible records; copies do too."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipin_jax.data import make_source
from clipin_jax.data.sources import SOURCES
from clipin_jax.errors import ClipinError
from tests.support.format_writers import CLASS_WRITERS, WRITERS, Pair, write_pairs
from tests.support.pair_folders import encoded_image

CLASSES = ("cat", "dog")
SCENES = dict(split="train", length=6, size=16)
# Arguments of sources that read no files.
WITHOUT_FILES: dict[str, dict[str, Any]] = {
    "scenes": SCENES,
    "mismatched": dict(source=dict(name="scenes", **SCENES), share=0.5),
    "mixture": dict(sources=dict(one=dict(name="scenes", weight=2.0, **SCENES))),
}
FORMATS = {name.partition(":")[0]: name for name in (*WRITERS, *CLASS_WRITERS)}


def arguments_of(name: str, folder: Path) -> dict[str, Any]:
    """Writes six records for a source; returns its arguments."""
    if name in WITHOUT_FILES or name not in FORMATS:
        return WITHOUT_FILES.get(name, {})
    pairs = [
        Pair(
            encoded_image(number, size=(8, 9)),
            (f"{CLASSES[number % 2]} number {number}", f"caption {number}"),
            number % 2,
        )
        for number in range(6)
    ]
    arguments = write_pairs(FORMATS[name], folder / "data", pairs, CLASSES)
    return {key: value for key, value in arguments.items() if key != "name"}


@pytest.fixture(scope="module", params=sorted(SOURCES))
def sources(request, tmp_path_factory) -> list[Any]:
    """A source, one built again, and a pickled copy, as another process gets it."""
    folder = tmp_path_factory.mktemp("source")
    try:
        arguments = arguments_of(request.param, folder)
    except ImportError as error:
        pytest.skip(f"no records of {request.param} without {error.name}")
    try:
        first, again = (make_source(name=request.param, **arguments) for _ in range(2))
    except ClipinError as error:
        raise AssertionError(
            f"{request.param!r} cannot be built from {arguments}: {error}. Add a "
            "function that writes its files to `WRITERS` in tests/support/"
            f"format_writers.py, or its arguments to `WITHOUT_FILES` in {__file__}"
        ) from error
    return [first, again, pickle.loads(pickle.dumps(first))]


def test_records_are_complete(sources):
    source = sources[0]
    assert len(source) == 6
    for index in range(len(source)):
        record = source[index]
        image, captions = record["image"], record["captions"]
        if not isinstance(image, (bytes, bytearray, memoryview)):
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        assert captions and all(isinstance(text, str) and text for text in captions)
        without = {key: value for key, value in record.items() if key != "image"}
        assert source.annotations(index) == without
        labels = np.atleast_1d(record.get("label", ()))
        assert all(0 <= label < len(source.classes) for label in labels)
        assert isinstance(source.describe(index), str)


def test_records_are_the_same_again_and_in_another_process(sources):
    first, *copies = sources
    for copy in copies:
        assert copy.fingerprint == first.fingerprint
        assert tuple(copy.classes) == tuple(first.classes)
        for index in (5, 0, 3):
            records = [dict(source[index]) for source in (first, copy)]
            images = [np.asarray(record.pop("image")) for record in records]
            np.testing.assert_array_equal(*images)
            assert records[0] == records[1]
