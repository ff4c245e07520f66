"""Image files that no read can finish, and names that no file can have.

Each is one bad record in training and in `clipin data check`, or an error in one line.
"""

import json
import os
from pathlib import Path

import pytest

from clipin_jax.data import make_source
from clipin_jax.errors import ClipinError
from tests.data.test_bad_records_every_source import (
    IN_FILES,
    good_names,
    with_images,
    write,
)

MOST_LETTERS = 600  # of an error, with the path of a temporary folder
LISTING = ("caption_files", "image_folder")  # these look for the files that there are
NAMING = sorted(set(IN_FILES) - {*LISTING, "auto"})


def unreadable(path: Path) -> None:
    path.write_bytes(b"")
    path.chmod(0)


PLACED = {
    "nothing": lambda path: None,
    "a folder": Path.mkdir,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a pipe": os.mkfifo,
    "an endless file": lambda path: path.symlink_to("/dev/zero"),
    "a file without rights": unreadable,
}
NAMES = {
    "a zero byte": "a\0.jpg",
    "half of a character": "\ud800.jpg",
    "too long": "x" * 5000,
    "too deep": "a/" * 3000 + "a.jpg",
    "empty": "",
    "spaces": "  ",
    "a folder": "..",
    "an endless file": "/dev/zero",
    "no image in base64": "data:image/png;base64,AAAA",
    "an unknown store": "nostore://bucket/a.jpg",
}


def check_third_is_bad(arguments, images, folder):
    """Checks that all records are good but the third, or that there is one error."""
    try:
        assert good_names(arguments, images, folder) == images.keys() - {"plain 2"}
    except ClipinError as error:
        assert "\n" not in str(error) and len(str(error)) < MOST_LETTERS
        with pytest.raises(ClipinError):  # not only in the midst of training
            make_source(**arguments)


@pytest.mark.parametrize("name", [*IN_FILES, "voc"])
@pytest.mark.parametrize("placed", PLACED)
def test_image_files_that_cannot_be_read(tmp_path, name, placed):
    images, pairs = with_images({})
    arguments = write(name, tmp_path, pairs)
    path = next((tmp_path / "data").rglob("*00002.jpg"))
    path.unlink()
    PLACED[placed](path)
    if name in LISTING and placed in ("nothing", "a folder"):
        assert len(make_source(**arguments)) == 3
    else:
        check_third_is_bad(arguments, images, tmp_path)


@pytest.mark.parametrize("name", NAMING)
@pytest.mark.parametrize("image", NAMES)
def test_names_that_no_image_file_has(tmp_path, name, image):
    images, pairs = with_images({})
    arguments = write(name, tmp_path, pairs)
    files = (tmp_path / "data").iterdir()
    tables = [
        path for path in files if path.suffix[1:] in ("csv", "tsv", "json", "jsonl")
    ]
    [table] = [path for path in tables if "00002.jpg" in path.read_text()]
    text = table.read_text().replace("images/00002.jpg", "00002.jpg")
    is_json = table.suffix.startswith(".json")
    named = json.dumps(NAMES[image])[1:-1] if is_json else NAMES[image]
    text = text.replace("00002.jpg", named)
    table.write_text(text, encoding="utf-8", errors="surrogatepass")
    check_third_is_bad(arguments, images, tmp_path)
