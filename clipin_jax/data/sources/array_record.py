"""ArrayRecord files of `tf.train.Example`, as `clipin data convert` writes them.

Random access to a record on a local disk is as fast as reading a separate file.
"""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from clipin_jax import storage
from clipin_jax.data.content import HEAD, check_content
from clipin_jax.data.formats.columns import Columns, check_columns
from clipin_jax.data.formats.concatenation import Concatenation
from clipin_jax.data.formats.example_proto import parse_example
from clipin_jax.data.formats.file_patterns import find_files
from clipin_jax.data.formats.json_file import read_json
from clipin_jax.data.source import (
    Annotations,
    BadRecord,
    Record,
    fingerprint,
    has_text,
)
from clipin_jax.errors import ClipinError, first_line

MANIFEST = "manifest.json"

_OPEN_FILES = 256  # files that stay open between two reads
_MOST_PROBED = 20  # first records, one of which must have a feature
_ENDINGS = (".array_record", ".arrayrecord")  # in a folder
_THREADS = 16
_SAMPLE = 1 << 16  # bytes at both ends of a file that the fingerprint depends on
_GROUP = re.compile(r"group_size:(\d+)")
_log = logging.getLogger(__name__)


class ArrayRecord:
    """One record per example, file by file.

    Args:
      files: a pattern (see `storage.expand`), or several. They are local, or at `gs://`,
        where the library itself reads them.
      image: the feature with the encoded image.
      captions: the feature with one caption or more; or several features, whose names
        become the kinds of the captions.
      kinds: None, or the feature with the kind of each caption.
      label: None, or the feature with the index of the class, its name, or several.
      classes: names of the classes in label order; () for those in `manifest.json`
        beside the files, if there is one.
      label_separator: between several labels in one text, such as "|"; "" if a text is
        one label.

    Damaged records keep their index and are bad records.

    Raises:
      ClipinError: a file is missing, truncated or no ArrayRecord file; there are no
        records; or the manifest is malformed.
    """

    def __init__(
        self,
        files: str | Sequence[str],
        image: str = "image",
        captions: str | Sequence[str] = "captions",
        kinds: str | None = None,
        label: str | None = None,
        classes: Sequence[str] = (),
        label_separator: str = "",
    ):
        self._paths = find_files(files, "array_record.files", _ENDINGS)
        if label and not classes:
            classes = _read_classes(self._paths[0])
        self._columns = Columns(
            "array_record", image, captions, label, classes, label_separator
        )
        if kinds and len(self._columns.captions) != 1:
            raise ClipinError(
                "array_record.kinds needs a single feature in array_record.captions"
            )
        self._kinds, self.classes = kinds, self._columns.classes
        self._texts = (*self._columns.texts, *filter(None, [kinds]))
        with ThreadPoolExecutor(_THREADS) as pool:
            counts = list(pool.map(_count, self._paths))
            digests = list(pool.map(_digest_ends, self._paths))
        self._records = Concatenation(counts)
        if not len(self):
            raise ClipinError(f"{self._paths[0]}: no records; set source.files")
        self._check_features()
        _warn_of_groups(self._paths[0])
        self.fingerprint = fingerprint(
            "array_record 1",
            [os.path.basename(path) for path in self._paths],
            (counts, digests),
            (image, self._columns.captions, kinds, label, self.classes),
            *filter(None, [label_separator]),
        )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        """Returns a record; image: the file's bytes."""
        name = self._columns.image
        features = self._features(index, (name, *self._texts))
        annotations = self._annotations(features)
        images = features.get(name)
        if not isinstance(images, list) or [type(item) for item in images] != [bytes]:
            raise BadRecord(f"no single image in feature {name!r}")
        return {"image": images[0], **annotations}

    def annotations(self, index: int) -> Annotations:
        """Returns captions, kinds and label of a record; reads its image as well."""
        return self._annotations(self._features(index, self._texts))

    def describe(self, index: int) -> str:
        """Returns number and file of a record; the first one in a file is record 0."""
        number, row = self._records.locate(index)
        return f"record {row} of {self._paths[number]}"

    def _features(self, index: int, names: Sequence[str] | None) -> dict[str, Any]:
        number, row = self._records.locate(index)
        try:
            [data] = _reader(self._paths[number]).read([row])
        # The library raises built-in exceptions.
        except (RuntimeError, ValueError) as error:
            raise BadRecord(f"damaged record: {first_line(error)}") from error
        return parse_example(data, names)

    def _annotations(self, features: dict[str, Any]) -> Annotations:
        names = [name for name in self._texts if name in features]
        values = {name: _decode(name, features[name]) for name in names}
        for name in self._columns.label_columns:
            label = values.get(name)
            # A feature of text is always a list, even of one name.
            if isinstance(label, list) and [type(item) for item in label] == [str]:
                values[name] = label[0]
        annotations = self._columns.annotations(values)
        if self._kinds:
            texts = values[self._columns.captions[0]]
            kinds = values.get(self._kinds)
            if not isinstance(kinds, list) or len(kinds) != len(texts):
                raise BadRecord(f"{self._kinds}: not a kind for each caption")
            pairs = zip(texts, kinds, strict=True)
            annotations["kinds"] = tuple(kind for text, kind in pairs if has_text(text))
        return annotations

    def _check_features(self) -> None:
        """Checks that the first records have the features. Raises ClipinError."""
        present, reason = {}, ""
        for index in range(min(len(self), _MOST_PROBED)):
            try:
                present |= self._features(index, None)
            except BadRecord as error:
                reason = reason or str(error)
        if not present and reason:
            raise ClipinError(
                f"{self._paths[0]}: the first records are no tf.train.Example: {reason}"
            )
        names = (self._columns.image, *self._texts)
        check_columns(names, sorted(present), self._paths[0])


def _decode(name: str, value: Any) -> Any:
    """Returns a feature with its bytes as text. Raises BadRecord."""
    if not isinstance(value, list):
        return value
    try:
        return [item.decode() if isinstance(item, bytes) else item for item in value]
    except UnicodeDecodeError as error:
        raise BadRecord(f"{name}: not UTF-8") from error


@functools.lru_cache(_OPEN_FILES)
def _reader(path: str) -> Any:
    """Returns a reader, which any thread may use."""
    # Imported here to keep the import of the package fast.
    from array_record.python.array_record_module import ArrayRecordReader

    options = "readahead_buffer_size:0,max_parallelism:0"
    return ArrayRecordReader(path, options, file_reader_buffer_size=_SAMPLE)


def _count(path: str) -> int:
    """Returns the number of records of a file. Raises ClipinError."""
    if storage.is_remote(path) and not path.startswith("gs://"):
        raise ClipinError(
            f"{path}: ArrayRecord files are read from a local disk, or from gs://; "
            "copy them"
        )
    reader = _reader(path)
    if not reader.ok():
        head = storage.read_range(path, 0, HEAD) if storage.exists(path) else b""
        check_content(head, path, "ArrayRecord file", "source.files")
        raise ClipinError(
            f"{path} is no ArrayRecord file, is cut off, or cannot be read; write it "
            "again, or leave it out of source.files"
        )
    return reader.num_records()


def _digest_ends(path: str) -> str:
    """Returns a digest of both ends of a file; the end has all offsets."""
    try:
        size = storage.size(path)
        ends = [storage.read_range(path, 0, _SAMPLE)]
        ends.append(storage.read_range(path, max(0, size - _SAMPLE), _SAMPLE))
    except OSError as error:
        raise ClipinError(
            f"{path} cannot be read ({error.strerror or error}); set source.files"
        ) from error
    return fingerprint(size, *ends)


def _warn_of_groups(path: str) -> None:
    group = _GROUP.search(_reader(path).writer_options_string() or "")
    if group and group[1] != "1":
        _log.warning(
            "%s was written with group_size:%s, so that each read unpacks as many "
            "records; group_size:1 is faster",
            path,
            group[1],
        )


def _read_classes(path: str) -> tuple[str, ...]:
    """Returns the classes in the manifest beside a file, () if there is none."""
    manifest = storage.join(storage.parent(path), MANIFEST)
    if not storage.exists(manifest):
        return ()
    _, content = read_json(manifest, "source.classes")
    classes = content.get("classes", [])
    if not isinstance(classes, list) or not all(isinstance(n, str) for n in classes):
        raise ClipinError(f"{manifest}: its 'classes' is no list of names; correct it")
    return tuple(classes)
