"""Files that are written once and hold the same bytes each time they are."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from clipin_jax.datatools.stored import Stored

_ENDINGS = {
    "JPEG": "jpg",
    "PNG": "png",
    "WebP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tiff",
}


class Writer(Protocol):
    """Writes records to one file."""

    def write(self, index: int, record: Stored) -> None:
        """Adds a record; index: its number in the source."""
        ...

    def close(self) -> None:
        """Ends the file."""
        ...


class TarWriter:
    """A tar with three members a record: picture, `.json` with all else, `.txt`.

    The `.txt` has the first caption, for programs that read no more than that.
    """

    def __init__(self, path: Path):
        self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)

    def write(self, index: int, record: Stored) -> None:
        """Adds a record; its key is its number in the source."""
        said: dict[str, Any] = {"captions": list(record.captions)}
        if record.kinds:
            said["kinds"] = list(record.kinds)
        if record.label is not None:
            said["label"] = record.label
        text = json.dumps(said, ensure_ascii=False).encode()
        # Programs that read tars know few endings, and go by the content anyway.
        ending = _ENDINGS.get(record.format, "jpg")
        self._add(f"{index:09d}.{ending}", record.image)
        self._add(f"{index:09d}.json", text)
        self._add(f"{index:09d}.txt", record.captions[0].encode())

    def close(self) -> None:
        """Ends the tar."""
        self._tar.close()

    def _add(self, name: str, content: bytes) -> None:
        # Its date is that of all the others, and nobody owns it.
        member = tarfile.TarInfo(name)
        member.size = len(content)
        self._tar.addfile(member, io.BytesIO(content))


class RecordWriter:
    """An ArrayRecord file of serialized `tf.train.Example`s."""

    def __init__(self, path: Path):
        # Not at the top: the library is only needed here.
        from array_record.python.array_record_module import ArrayRecordWriter

        from clipin_jax.data.formats.example_proto import encode_example

        self._encode = encode_example
        self._path = path
        # One record a group, or reading one at random would unpack its neighbours.
        self._file = ArrayRecordWriter(str(path), "group_size:1")
        self._demand_ok()

    def write(self, index: int, record: Stored) -> None:
        """Adds a record; its number is not kept."""
        example: dict[str, Any] = {
            "image": record.image,
            "captions": list(record.captions),
        }
        if record.kinds:
            example["kinds"] = list(record.kinds)
        if record.label is not None:
            example["label"] = record.label
        self._file.write(self._encode(example))
        self._demand_ok()

    def close(self) -> None:
        """Ends the file."""
        self._file.close()

    def _demand_ok(self) -> None:
        if not self._file.ok():
            raise OSError(None, "the library cannot write it", str(self._path))


class Format(NamedTuple):
    """A kind of file that records can be written to and a source can read.

    source: its name; arguments: of it, besides name and files; kinds, label, labels:
      those that read kinds of captions, one label a record, or a list of them; None
      where it cannot.
    """

    source: str
    ending: str
    writer: Callable[[Path], Writer]
    arguments: dict[str, Any]
    kinds: dict[str, str] | None
    label: dict[str, str] | None
    labels: dict[str, str] | None


FORMATS = {
    "array_record": Format(
        "array_record",
        "array_record",
        RecordWriter,
        arguments=dict(image="image", captions="captions"),
        kinds=dict(kinds="kinds"),
        label=dict(label="label"),
        labels=dict(label="label"),
    ),
    "webdataset": Format(
        "webdataset",
        "tar",
        TarWriter,
        arguments=dict(captions="json:captions"),
        kinds=None,
        label=dict(label="json:label"),
        labels=None,
    ),
}
