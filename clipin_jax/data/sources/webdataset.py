"""Tars of pictures with texts, in the layout of WebDataset.

    00000.tar: 000000.jpg  000000.txt  000000.json
               000001.jpg  000001.txt  000001.json

Files that follow one another and have the same name up to the first dot of the base
name are one sample; what stands behind that dot is their extension. The tars are
neither unpacked nor read from end to end: any sample can be had at any time, also from
an object store. Hidden files and those without an extension belong to no sample.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from clipin_jax.data import storage
from clipin_jax.data.formats.sample_texts import SampleTexts, text_parts
from clipin_jax.data.formats.tar_headers import Fault
from clipin_jax.data.formats.tar_index import SUFFIX, read_index, read_key
from clipin_jax.data.source import Annotations, BadRecord, Record, fingerprint
from clipin_jax.errors import ClipinError

_PICTURES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
_THREADS = 16
_GAP = 1 << 16  # bytes between files of a sample that are read rather than jumped over
_SHOWN = 5  # tars with trouble, or extensions, in messages
_log = logging.getLogger(__name__)


class _Shard(NamedTuple):
    """A tar: of each sample, its `Fault`, and where the picture and the texts lie.

    Offsets and sizes are [samples, columns], the first column is the picture.
    """

    path: str
    starts: np.ndarray
    faults: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray


class _Found(NamedTuple):
    """What the first look at a tar yields."""

    shard: _Shard
    fingerprint: str
    counts: list[tuple[str, int]]
    trouble: str
    kept: bool


class WebDataset:
    """One record per sample, in the order of the tars.

    Args:
      files: the tars: a pattern as `/data/{00000..00099}.tar` or `gs://bucket/*.tar`,
        or several.
      captions: the extension of the file with the caption, "txt"; or where in a file
        of JSON it is, "json:caption", with a dot between keys inside one another. What
        stands there may be a list of captions. If several are given, those that a
        sample has are read, and each is of the kind by which it was given.
      label: None; or where the index of the class is: "cls" or "json:label".
      classes: the names of the classes.
      index: a local folder where to keep what was found in the tars, so that later runs
        begin at once; "": beside each tar, unless it is remote or its folder read-only.
      image: the extension of the picture, if it is not one of the usual ones, such as
        "image.jpg"; "": the first file of a sample that has a usual one.

    Samples of no use keep their place and are bad records: those that lack a part, are
    damaged or cut, or have the key of an earlier one in the same tar.

    Raises:
      ClipinError: no such tar, one that is compressed or cannot be read, or no sample
        with all parts in any of them.
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
        self._pictures = (image.lower(),) if image else _PICTURES
        parts = self._captions + self._labels
        self._texts = tuple(dict.fromkeys(part.extension for part in parts))
        found = _in_threads(lambda tar: self._look(tar, index), _tars(files))
        self._check(found)
        _warn(found, index)
        self._shards = [each.shard for each in found]
        self._ends = np.cumsum([len(shard.starts) for shard in self._shards])
        self.fingerprint = fingerprint(
            "webdataset 1",
            [each.fingerprint for each in found],
            (self._captions, self._labels, self.classes),
        )

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Record:
        """The record; image: the file's bytes."""
        image, *texts = self._read(index, 0)
        return {"image": image, **self._annotations(texts)}

    def annotations(self, index: int) -> Annotations:
        """Captions and label of a record; only files of text are read."""
        return self._annotations(self._read(index, 1))

    def describe(self, index: int) -> str:
        """Key and tar of a record."""
        shard, row = self._place(index)
        start = int(shard.starts[row])
        try:
            key = read_key(shard.path, start)
        except OSError:
            key = ""
        return f"{key or f'byte {start}'} in {shard.path}"

    def _look(self, tar: str, folder: str) -> _Found:
        try:
            index, kept = read_index(tar, folder)
        except OSError as error:
            raise ClipinError(
                f"{tar} cannot be read ({error.strerror or error}); mend it, or leave "
                "it out of source.files"
            ) from error
        columns = [index.column(self._pictures)]
        columns += [index.column((extension,)) for extension in self._texts]
        offsets = np.stack([column[0] for column in columns], 1)
        sizes = np.stack([column[1] for column in columns], 1)
        shard = _Shard(tar, index.starts, index.faults, offsets, sizes)
        tables = [table.tobytes() for table in shard[1:]]
        return _Found(
            shard,
            fingerprint(os.path.basename(tar), index.size, *tables),
            index.counts().most_common(_SHOWN),
            index.trouble,
            kept,
        )

    def _check(self, found: Sequence[_Found]) -> None:
        """Raises ClipinError unless one sample has all parts."""
        if any(self._some_whole(each.shard) for each in found):
            return
        counts, troubles = Counter(), Counter(each.trouble for each in found)
        for each in found:
            counts.update(dict(each.counts))
        seen = [f"{n} x {name!r}" for name, n in counts.most_common(_SHOWN)]
        seen += [f"{n} x {trouble}" for trouble, n in troubles.items() if trouble]
        texts = " or ".join(part.name for part in self._captions)
        texts += "".join(f" and {part.name}" for part in self._labels)
        raise ClipinError(
            f"no sample of {len(found)} tars, the first of them {found[0].shard.path}, "
            f"has a picture and {texts}; there are {', '.join(seen) or 'none'}: "
            "set source.captions, source.label and source.image by these extensions"
        )

    def _place(self, index: int) -> tuple[_Shard, int]:
        """The tar of a record, and its place there, counted back from the end."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self._shards[number], index - int(self._ends[number])

    def _some_whole(self, shard: _Shard) -> bool:
        """Whether a sample has all parts, as far as the tables tell."""
        picture, *texts = shard.sizes.T > 0
        there = dict(zip(self._texts, texts, strict=True))
        whole = picture & (shard.faults == Fault.NONE)
        whole &= np.any([there[part.extension] for part in self._captions], 0)
        for part in self._labels:
            whole &= there[part.extension]
        return bool(whole.any())

    def _read(self, index: int, first: int) -> list[bytes | None]:
        """Files of a sample by column, from one on. Raises BadRecord, OSError."""
        shard, row = self._place(index)
        if fault := Fault(shard.faults[row]):
            raise BadRecord(fault.reason)
        sizes = shard.sizes[row].tolist()
        if sizes[0] <= 0:
            raise BadRecord(f"picture: {Fault(-sizes[0]).reason or 'empty'}")
        for name, size in zip(self._texts, sizes[1:], strict=True):
            if size < -Fault.ABSENT:
                raise BadRecord(f"{name}: {Fault(-size).reason}")
        places = list(zip(shard.offsets[row].tolist(), sizes, strict=True))
        return _contents(shard.path, places[first:])

    def _annotations(self, texts: Sequence[bytes | None]) -> Annotations:
        said = SampleTexts(dict(zip(self._texts, texts, strict=True)))
        captions, kinds = [], []
        for part in self._captions:
            own = said.captions(part)
            captions += own
            kinds += [part.name] * len(own)
        if not captions:
            raise BadRecord("no caption")
        annotations: Annotations = {"captions": tuple(captions)}
        if len(self._captions) > 1:
            annotations["kinds"] = tuple(kinds)
        for part in self._labels:
            annotations["label"] = said.label(part, len(self.classes))
        return annotations


def _contents(path: str, places: Sequence[tuple[int, int]]) -> list[bytes | None]:
    """What stands at each offset, so many bytes long; None for a negative size.

    What lies close together is read at once: for a store each read is a request.
    """
    spans = [(at, at + size) for at, size in places if size > 0]
    low = min((start for start, _ in spans), default=0)
    high = max((end for _, end in spans), default=0)
    near = high - low <= sum(end - start for start, end in spans) + _GAP
    block = storage.read_range(path, low, high - low) if near and spans else b""
    contents = []
    for at, size in places:
        if size <= 0:
            contents.append(None if size < 0 else b"")
            continue
        if near:
            content = block[at - low : at - low + size]
        else:
            content = storage.read_range(path, at, size)
        if len(content) < size:
            raise BadRecord("truncated: the tar is shorter than it was")
        contents.append(content)
    return contents


def _tars(patterns: str | Sequence[str]) -> list[str]:
    """The files that patterns stand for, each once."""
    each = [patterns] if isinstance(patterns, str) else list(patterns)
    found = [path for pattern in each if pattern for path in storage.expand(pattern)]
    tars = [path for path in dict.fromkeys(found) if not path.endswith(SUFFIX)]
    if not tars:
        raise ClipinError(f"webdataset.files is {patterns!r}, which names no tar")
    return tars


def _in_threads(look: Callable[[str], _Found], tars: Sequence[str]) -> list[_Found]:
    pool = ThreadPoolExecutor(_THREADS)
    try:
        return list(pool.map(look, tars))
    finally:
        pool.shutdown(cancel_futures=True)


def _warn(found: Sequence[_Found], folder: str) -> None:
    troubled = [each for each in found if each.trouble]
    for each in troubled[:_SHOWN]:
        _log.warning("%s: %s", each.shard.path, each.trouble)
    if len(troubled) > _SHOWN:
        _log.warning("%d more tars are damaged", len(troubled) - _SHOWN)
    lost = sum(not each.kept for each in found)
    if lost:
        _log.warning(
            "what was found in %d tars cannot be kept in %s, so that every run looks "
            "through them; set source.index to a folder of your own",
            lost,
            folder or "their folder",
        )
