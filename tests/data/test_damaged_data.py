"""Damaged files of every source: an error in one line, or records good and bad."""

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipin_jax.data import make_source
from clipin_jax.data.image.decode import open_image
from clipin_jax.data.source import BadRecord
from clipin_jax.errors import ClipinError
from tests.data.test_bad_records_every_source import CLASSES, limited, pair
from tests.support.damage import damaged_bytes, damaged_json
from tests.support.format_writers import CLASS_WRITERS, WRITERS, write_pairs

MOST_PIXELS = 1 << 20
MOST_LETTERS = 800  # of an error, with paths of temporary folders
NAMES = sorted(WRITERS | CLASS_WRITERS)
JSON_ENDINGS = (".json", ".jsonl")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Returns the folder of four pairs in a format, and the arguments to read it."""
    sources: dict[str, tuple[Path, dict[str, Any]]] = {}

    def get(name: str) -> tuple[Path, dict[str, Any]]:
        if name not in sources:
            folder = tmp_path_factory.mktemp("written") / "data"
            try:
                arguments = write_pairs(name, folder, [*map(pair, range(4))], CLASSES)
            except ImportError as error:
                pytest.skip(f"no records of {name} without {error.name}")
            sources[name] = folder, arguments
        return sources[name]

    return get


@pytest.fixture(autouse=True)
def quiet():
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def files_of(folder: Path) -> list[Path]:
    """Returns the files that name or hold the records, without single images."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if path.suffix != ".jpg"] or files


def moved(arguments: dict[str, Any], old: Path, new: Path) -> dict[str, Any]:
    return {
        key: value.replace(str(old), str(new)) if isinstance(value, str) else value
        for key, value in arguments.items()
    }


def read_all(arguments: dict[str, Any]) -> None:
    """Reads every record as training does; raises ClipinError for a source."""
    source = make_source(**arguments)
    for index in range(len(source)):
        assert isinstance(source.describe(index), str)
        try:
            record = source[index]
            pixels = open_image(record["image"], MOST_PIXELS).pixels()
        except (BadRecord, OSError) as error:
            assert str(error)
            continue
        assert pixels.dtype == np.uint8
        assert all(text.encode() for text in record["captions"])
        labels = np.ravel(record.get("label", ()))
        assert all(0 <= label < len(source.classes) for label in labels)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_damaged_file_gives_records_or_an_error(
    name, written, tmp_path_factory, data
):
    folder, arguments = written(name)
    # Readers keep files open by their path, so each example has a folder of its own.
    copy = tmp_path_factory.mktemp("damaged") / "data"
    shutil.copytree(folder, copy)
    path = data.draw(st.sampled_from(files_of(copy)))
    content = path.read_bytes()
    kinds = [damaged_bytes(content)]
    if path.suffix in JSON_ENDINGS:
        kinds.append(damaged_json(content))
    path.write_bytes(data.draw(st.one_of(kinds)))
    try:
        with limited():
            read_all(moved(arguments, folder, copy))
    except ClipinError as error:
        assert "\n" not in str(error) and len(str(error)) < MOST_LETTERS
    finally:
        shutil.rmtree(copy.parent)


@pytest.mark.parametrize("name", NAMES)
def test_undamaged_files_are_read(name, written):
    _, arguments = written(name)
    source = make_source(**arguments)
    assert [bool(source[index]["captions"]) for index in range(4)] == [True] * 4
