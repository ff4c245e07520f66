"""Tars of images with texts, in the layout of WebDataset.

    00000.tar: 000000.jpg  000000.txt  000000.json
               000001.jpg  000001.txt  000001.json

Files with the same name up to the first dot of the base name are one sample; the rest
after that dot is their extension. They may be apart, as in `tar cf a.tar *.jpg *.txt`,
in up to four million samples of a tar; the index takes about 100 bytes for each. Tars
are neither unpacked nor read from end to end: samples are read by index, also from an
object store. Hidden files and those without an extension belong to no sample.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from clipin_jax import storage
from clipin_jax.data.compressed import plain_file
from clipin_jax.data.formats.concatenation import Concatenation
from clipin_jax.data.formats.file_patterns import find_files
from clipin_jax.data.formats.image_files import ENDINGS
from clipin_jax.data.formats.sample_texts import (
    SampleTexts,
    check_whole_json,
    text_parts,
)
from clipin_jax.data.formats.tar_headers import Fault
from clipin_jax.data.formats.tar_index import SUFFIX, read_index, read_key
from clipin_jax.data.source import Annotations, BadRecord, Record, fingerprint
from clipin_jax.errors import ClipinError

_IMAGES = tuple(ending.removeprefix(".") for ending in ENDINGS)
_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")  # in a folder
_THREADS = 16
_GAP = 1 << 16  # bytes between files of a sample that may be read in between
_MOST_PROBED = 20  # first samples whose JSON is looked at
_SHOWN = 5  # damaged tars or extensions that messages show
_log = logging.getLogger(__name__)


class _Shard(NamedTuple):
    """A tar: its samples, and the offsets of their files.

    starts: [samples] int64, offset of the first header.
    faults: [samples] uint8, a `Fault`.
    offsets, sizes: [samples, columns] int64, of the content of each file; the first
      column is the image, the others are the texts.
    """

    path: str
    starts: np.ndarray
    faults: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray


class _Scan(NamedTuple):
    """The result of reading the headers of a tar.

    counts: the most frequent extensions.
    trouble: faults of the tar, for a warning.
    is_kept: whether the index is saved for the next run.
    """

    shard: _Shard
    fingerprint: str
    counts: list[tuple[str, int]]
    trouble: str
    is_kept: bool


class WebDataset:
    """One record per sample, in the order of the tars.

    Args:
      files: the tars: a pattern such as `/data/{00000..00099}.tar` or
        `gs://bucket/*.tar`, a folder of tars, or several of these. A local `.tar.gz`
        (also bz2, xz) is unpacked once to a file in the folder of its index.
      captions: the extension of the file with the caption, "txt"; or a key in a JSON
        file, "json:caption", with dots between the keys of inner objects. The value may
        be a list of captions. With several of these strings, all that a sample has are
        read, and the string is the kind of the caption.
      label: None; or the extension or key with the index of the class, "cls" or
        "json:label".
      classes: the names of the classes.
      index: a local folder for the index of each tar, which lets later runs start at
        once; "" for the folder of each tar, unless it is remote or read-only.
      image: the extension of the image, if it is unusual, such as "image.jpg"; "" for
        the first file of a sample with a usual extension.

    Unusable samples keep their index and are bad records: those with a missing file,
    damaged or truncated ones, or those with the key of an earlier one in the same tar.

    Raises:
      ClipinError: no such tar; a tar that is compressed or cannot be read; or no sample
        with all files.
    """

    def __init__(
        self,
        files: str | Sequence[str],
        captions: str | Sequence[str] = "txt",
        label: str | None = None,
        classes: Sequence[str] = (),
        index: str = "",
        image: str = "",
    ):
        if storage.is_remote(index):
            raise ClipinError(f"webdataset.index is {index}: it must be a local folder")
        if classes and not label:
            raise ClipinError("webdataset.classes has names, but webdataset.label none")
        self.classes = tuple(classes)
        self._captions = text_parts("webdataset.captions", captions)
        self._labels = text_parts("webdataset.label", label) if label else []
        self._image_extensions = (image.lower(),) if image else _IMAGES
        parts = self._captions + self._labels
        self._texts = tuple(dict.fromkeys(part.extension for part in parts))
        scans = _map_in_threads(lambda tar: self._scan(tar, index), _list_tars(files))
        self._check(scans)
        _warn(scans, index)
        self._shards = [scan.shard for scan in scans]
        self._records = Concatenation([len(s.starts) for s in self._shards])
        self._check_whole_json()
        self.fingerprint = fingerprint(
            "webdataset 1",
            [scan.fingerprint for scan in scans],
            (self._captions, self._labels, self.classes),
        )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        """Returns a record; image: the file's bytes."""
        image, *texts = self._read(index, 0)
        assert image is not None  # `_read` raises if it is missing
        return {"image": image, **self._annotations(texts)}

    def annotations(self, index: int) -> Annotations:
        """Returns captions and label of a record; reads only its text files."""
        return self._annotations(self._read(index, 1))

    def describe(self, index: int) -> str:
        """Returns key and tar of a record."""
        shard, row = self._locate(index)
        start = int(shard.starts[row])
        try:
            key = read_key(shard.path, start)
        except OSError:
            key = ""
        return f"{key or f'byte {start}'} in {shard.path}"

    def _scan(self, tar: str, folder: str) -> _Scan:
        try:
            path = plain_file(tar, folder)
            index, is_kept = read_index(path, folder)
        except OSError as error:
            raise ClipinError(
                f"{tar} cannot be read ({error.strerror or error}); repair it, or "
                "leave it out of source.files"
            ) from error
        columns = [index.column(self._image_extensions)]
        columns += [index.column((extension,)) for extension in self._texts]
        offsets = np.stack([column[0] for column in columns], 1)
        sizes = np.stack([column[1] for column in columns], 1)
        shard = _Shard(path, index.starts, index.faults, offsets, sizes)
        arrays = [array.tobytes() for array in shard[1:]]
        return _Scan(
            shard,
            fingerprint(os.path.basename(tar), index.size, *arrays),
            counts=index.counts().most_common(_SHOWN),
            trouble=index.trouble,
            is_kept=is_kept,
        )

    def _check(self, scans: Sequence[_Scan]) -> None:
        """Checks that one sample has all files. Raises ClipinError."""
        if any(self._has_complete_sample(scan.shard) for scan in scans):
            return
        counts, troubles = Counter(), Counter(scan.trouble for scan in scans)
        for scan in scans:
            counts.update(dict(scan.counts))
        seen = [f"{n} x {name!r}" for name, n in counts.most_common(_SHOWN)]
        seen += [f"{n} x {trouble}" for trouble, n in troubles.items() if trouble]
        if not counts:
            raise ClipinError(
                f"none of {len(scans)} tars, the first of them {scans[0].shard.path}, "
                f"has a file for a sample; there are {', '.join(seen)}: repair them, "
                "or leave them out of source.files"
            )
        texts = " or ".join(part.name for part in self._captions)
        texts += "".join(f" and {part.name}" for part in self._labels)
        raise ClipinError(
            f"no sample of {len(scans)} tars, the first of them {scans[0].shard.path}, "
            f"has an image and {texts}; there are {', '.join(seen) or 'none'}: "
            "set source.captions, source.label and source.image by these extensions"
        )

    def _check_whole_json(self) -> None:
        """Checks that a part that is a whole JSON file is no object."""
        arguments = {"source.captions": self._captions, "source.label": self._labels}
        whole = [
            (argument, part)
            for argument, parts in arguments.items()
            for part in parts
            if part.is_json and part.keys is None
        ]
        for index in range(min(len(self), _MOST_PROBED) if whole else 0):
            try:
                texts = dict(zip(self._texts, self._read(index, 1), strict=True))
            except (BadRecord, OSError):
                continue
            for argument, part in whole:
                check_whole_json(argument, part, texts[part.extension])

    def _locate(self, index: int) -> tuple[_Shard, int]:
        """Returns the tar of a record, and its number there."""
        number, row = self._records.locate(index)
        return self._shards[number], row

    def _has_complete_sample(self, shard: _Shard) -> bool:
        """Tells whether a sample has all files; keys of JSON are not checked."""
        has_image, *has_texts = shard.sizes.T > 0
        has_text = dict(zip(self._texts, has_texts, strict=True))
        complete = has_image & (shard.faults == Fault.NONE)
        complete &= np.any([has_text[part.extension] for part in self._captions], 0)
        for part in self._labels:
            complete &= has_text[part.extension]
        return bool(complete.any())

    def _read(self, index: int, first: int) -> list[bytes | None]:
        """Returns the files of a sample from column `first` on.

        Raises:
          BadRecord, OSError: the sample cannot be used.
        """
        shard, row = self._locate(index)
        if fault := Fault(shard.faults[row]):
            raise BadRecord(fault.reason)
        sizes = shard.sizes[row].tolist()
        if sizes[0] <= 0:
            raise BadRecord(f"image: {Fault(-sizes[0]).reason or 'empty'}")
        for name, size in zip(self._texts, sizes[1:], strict=True):
            if size < -Fault.ABSENT:
                raise BadRecord(f"{name}: {Fault(-size).reason}")
        spans = list(zip(shard.offsets[row].tolist(), sizes, strict=True))
        return _read_spans(shard.path, spans[first:])

    def _annotations(self, texts: Sequence[bytes | None]) -> Annotations:
        sample = SampleTexts(dict(zip(self._texts, texts, strict=True)))
        return sample.annotations(self._captions, self._labels, len(self.classes))


def _read_spans(path: str, spans: Sequence[tuple[int, int]]) -> list[bytes | None]:
    """Returns the bytes of each (offset, size); None for a negative size.

    Spans that are close are read at once, since each read of a store is a request.
    """
    nonempty = [(at, at + size) for at, size in spans if size > 0]
    low = min((start for start, _ in nonempty), default=0)
    high = max((end for _, end in nonempty), default=0)
    at_once = high - low <= sum(end - start for start, end in nonempty) + _GAP
    block = storage.read_range(path, low, high - low) if at_once and nonempty else b""
    contents = []
    for at, size in spans:
        if size <= 0:
            contents.append(None if size < 0 else b"")
            continue
        if at_once:
            content = block[at - low : at - low + size]
        else:
            content = storage.read_range(path, at, size)
        if len(content) < size:
            raise BadRecord("truncated: the tar is shorter than it was")
        contents.append(content)
    return contents


def _list_tars(patterns: str | Sequence[str]) -> list[str]:
    """Returns the files that match the patterns, each once."""
    paths = find_files(patterns, "webdataset.files", _ENDINGS)
    # A pattern that ends in "*" also matches the indices beside the tars.
    tars = [path for path in paths if not path.endswith(SUFFIX)]
    if not tars:
        raise ClipinError(f"webdataset.files is {patterns!r}, which names no tar")
    return tars


def _map_in_threads(scan: Callable[[str], _Scan], tars: Sequence[str]) -> list[_Scan]:
    pool = ThreadPoolExecutor(_THREADS)
    try:
        return list(pool.map(scan, tars))
    finally:
        pool.shutdown(cancel_futures=True)


def _warn(scans: Sequence[_Scan], folder: str) -> None:
    damaged = [scan for scan in scans if scan.trouble]
    for scan in damaged[:_SHOWN]:
        _log.warning("%s: %s", scan.shard.path, scan.trouble)
    if len(damaged) > _SHOWN:
        _log.warning("%d more tars are damaged", len(damaged) - _SHOWN)
    not_kept = sum(not scan.is_kept for scan in scans)
    if not_kept:
        _log.warning(
            "the index of %d tars cannot be kept in %s, so that every run reads all "
            "their headers; set source.index to a folder that can be written",
            not_kept,
            folder or "their folder",
        )
