"""Writes record files; the same records give the same bytes every time."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from clipin_jax.datatools.conversion.encoded_record import EncodedRecord

_EXTENSIONS = {
    "JPEG": "jpg",
    "PNG": "png",
    "WebP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tiff",
}


class RecordWriter(Protocol):
    """Writes records to one file."""

    def write(self, index: int, record: EncodedRecord) -> None:
        """Adds a record; `index` is its index in the source."""
        ...

    def close(self) -> None:
        """Finishes the file."""
        ...


class TarWriter:
    """Writes a tar with three members for each record: image, `.json`, `.txt`.

    The `.json` has all captions, kinds and labels, the `.txt` the first caption, for
    programs that read nothing else.
    """

    def __init__(self, path: Path):
        self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)

    def write(self, index: int, record: EncodedRecord) -> None:
        """Adds a record; its key is its index in the source."""
        content: dict[str, Any] = {"captions": list(record.captions)}
        if record.kinds:
            content["kinds"] = list(record.kinds)
        if record.label is not None:
            content["label"] = record.label
        text = json.dumps(content, ensure_ascii=False).encode()
        # Readers of tars know few extensions, and recognize formats by content.
        extension = _EXTENSIONS.get(record.format, "jpg")
        self._add(f"{index:09d}.{extension}", record.image)
        self._add(f"{index:09d}.json", text)
        self._add(f"{index:09d}.txt", record.captions[0].encode())

    def close(self) -> None:
        """Finishes the tar."""
        self._tar.close()

    def _add(self, name: str, content: bytes) -> None:
        # The default date and owner are constant, so the bytes are too.
        member = tarfile.TarInfo(name)
        member.size = len(content)
        self._tar.addfile(member, io.BytesIO(content))


class ArrayRecordWriter:
    """Writes an ArrayRecord file of serialized `tf.train.Example`s."""

    def __init__(self, path: Path):
        # Imported here because only this class needs the library.
        from array_record.python import array_record_module

        from clipin_jax.data.formats.example_proto import encode_example

        self._encode = encode_example
        self._path = path
        # One record per group: random access must not unpack other records.
        options = "group_size:1"
        self._file = array_record_module.ArrayRecordWriter(str(path), options)
        self._check_state()

    def write(self, index: int, record: EncodedRecord) -> None:
        """Adds a record; its index is not written."""
        example: dict[str, Any] = {
            "image": record.image,
            "captions": list(record.captions),
        }
        if record.kinds:
            example["kinds"] = list(record.kinds)
        if record.label is not None:
            example["label"] = record.label
        self._file.write(self._encode(example))
        self._check_state()

    def close(self) -> None:
        """Finishes the file."""
        self._file.close()

    def _check_state(self) -> None:
        if not self._file.ok():
            raise OSError(None, "array_record cannot write it", str(self._path))


class RecordFormat(NamedTuple):
    """A file format that is written here and read by a source.

    Attributes:
      source: name of the source.
      extension: of the files.
      writer: opens the writer of a file.
      arguments: of the source, besides name and files.
      kinds, label, labels: further arguments to read kinds of captions, one label per
        record, or a list of them; None if the source cannot read them.
    """

    source: str
    extension: str
    writer: Callable[[Path], RecordWriter]
    arguments: dict[str, Any]
    kinds: dict[str, str] | None
    label: dict[str, str] | None
    labels: dict[str, str] | None


FORMATS = {
    "array_record": RecordFormat(
        source="array_record",
        extension="array_record",
        writer=ArrayRecordWriter,
        arguments=dict(image="image", captions="captions"),
        kinds=dict(kinds="kinds"),
        label=dict(label="label"),
        labels=dict(label="label"),
    ),
    "webdataset": RecordFormat(
        source="webdataset",
        extension="tar",
        writer=TarWriter,
        arguments=dict(captions="json:captions"),
        kinds=None,
        label=dict(label="json:label"),
        labels=None,
    ),
}
