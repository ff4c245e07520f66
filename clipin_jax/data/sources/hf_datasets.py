"""Data sets of the library `datasets`, as its `save_to_disk` writes them.

Nothing is downloaded: call `load_dataset(...).save_to_disk(folder)` first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clipin_jax import storage
from clipin_jax.data.formats.columns import Columns, check_columns, read_image
from clipin_jax.data.formats.json_file import read_json
from clipin_jax.data.source import Annotations, BadRecord, Record, fingerprint
from clipin_jax.errors import ClipinError, check_choice, first_line

_ROWS_AT_ONCE = 1024  # rows read at once when all are read


class HfDatasets:
    """One record per row. Images stay encoded.

    Args:
      folder: written by `save_to_disk`, with one split or several.
      split: name of the split; "" if there is only one.
      image: the column with the image: the feature Image, encoded bytes, or a path
        relative to the folder.
      captions: the column with a text or a list of texts; or several, whose names
        become the kinds of the captions.
      label: None, or the column with the class or several.
      classes: names of the classes in label order; () for those of the feature
        ClassLabel, else for those that occur, sorted.
      label_separator: between several labels in one text, such as "|"; "" if a text is
        one label.

    Raises:
      ClipinError: the library is not installed; the folder has no such data set, split,
        column or rows; or a column has another type.
    """

    def __init__(
        self,
        folder: str,
        split: str = "",
        image: str = "image",
        captions: str | Sequence[str] = "caption",
        label: str | None = None,
        classes: Sequence[str] = (),
        label_separator: str = "",
    ):
        rows, self._folder = _load(folder, split)
        columns = Columns(
            "hf_datasets", image, captions, label, classes, label_separator
        )
        check_columns((image, *columns.texts), rows.column_names, self._folder)
        if not len(rows):
            raise ClipinError(f"{self._folder} has no rows; set source.folder")
        names = _class_names(rows.features[label]) if label else ()
        if names and not classes:
            columns = Columns(
                "hf_datasets", image, captions, label, names, label_separator
            )
        if label and not columns.classes:
            columns.check_labels({self._folder: _values(rows, label)})
        self._columns, self.classes = columns, columns.classes
        _check_types(rows.features, columns, self._folder)
        self._texts = rows.select_columns(list(columns.texts)).with_format("arrow")
        self._images = rows.select_columns([image]).with_format("arrow")
        self.fingerprint = fingerprint(
            "hf_datasets 1",
            _digest(rows, self._folder),
            (image, columns.captions, label, self.classes),
            *filter(None, [label_separator]),
        )

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, index: int) -> Record:
        """Returns a record; image: the file's bytes."""
        annotations = self.annotations(index)
        value = _row(self._images, index)[self._columns.image]
        return {"image": read_image(value, self._folder), **annotations}

    def annotations(self, index: int) -> Annotations:
        """Returns captions, kinds and label of a record; reads no column of images."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        return self._columns.annotations(_row(self._texts, index))

    def describe(self, index: int) -> str:
        """Returns row and folder of a record; the first one is row 0."""
        return f"row {index} of {self._folder}"


def _load(folder: str, split: str) -> tuple[Any, str]:
    """Returns the rows of a split, and their folder. Raises ClipinError."""
    try:
        # Imported here, since it takes two seconds and is an extra.
        import datasets as library
    except ImportError as error:
        raise ClipinError(
            "source hf_datasets needs a library that is not installed: "
            "pip install 'clipin_jax[hf]'"
        ) from error
    folder = storage.join(folder, "").rstrip("/")
    try:
        data = library.load_from_disk(folder)
    # The library raises all kinds of errors on a damaged description or file.
    except Exception as error:
        raise ClipinError(
            f"{folder} cannot be read as a data set that save_to_disk wrote: "
            f"{first_line(error)}; set source.folder"
        ) from error
    if not isinstance(data, library.DatasetDict):
        if split:
            raise ClipinError(
                f"{folder} has no splits, but source.split is {split!r}; leave it empty"
            )
        return data, folder
    if not split and len(data) == 1:
        [split] = data
    check_choice("hf_datasets.split", split, tuple(data))
    return data[split], storage.join(folder, split)


def _digest(rows: Any, folder: str) -> str:
    """Returns a hash of the library's fingerprint and the sizes of the files."""
    path = storage.join(folder, "state.json")
    _, state = read_json(path, "source.folder")
    names = [str(file.get("filename")) for file in state.get("_data_files", [])]
    sizes = [storage.size(storage.join(folder, name)) for name in names]
    return fingerprint(state.get("_fingerprint"), names, sizes, len(rows))


def _class_names(feature: Any) -> tuple[str, ...]:
    """Returns the classes of the feature ClassLabel, or of a list of it; else ()."""
    return tuple(getattr(_inner(feature), "names", ()))


def _inner(feature: Any) -> Any:
    """Returns the feature of a list's items; any other feature unchanged."""
    if isinstance(feature, list) and len(feature) == 1:
        return feature[0]
    return getattr(feature, "feature", feature)


def _check_types(features: Any, columns: Columns, folder: str) -> None:
    texts = [(name, "text", _is_text) for name in columns.captions]
    for name, meaning, fits in [(columns.image, "an image", _is_image), *texts]:
        if not fits(features[name]):
            raise ClipinError(
                f"{folder}: column {name!r} is not {meaning}, but "
                f"{first_line(features[name])}"
            )


def _is_text(feature: Any) -> bool:
    return _dtype(_inner(feature)) in ("string", "large_string")


def _is_image(feature: Any) -> bool:
    if isinstance(feature, dict):
        return bool({"bytes", "path"} & set(feature))
    plain = ("string", "large_string", "binary", "large_binary")
    return type(feature).__name__ == "Image" or _dtype(feature) in plain


def _dtype(feature: Any) -> str:
    return str(getattr(feature, "dtype", ""))


def _values(rows: Any, column: str) -> Iterator[Mapping[str, Any]]:
    """Yields the values of a column, row by row, without damaged parts."""
    column_only = rows.select_columns([column]).with_format("arrow")
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        indices = range(first, min(first + _ROWS_AT_ONCE, len(rows)))
        with contextlib.suppress(BadRecord):
            yield from _read(column_only, indices)


def _row(rows: Any, index: int) -> dict[str, Any]:
    return _read(rows, range(index, index + 1))[0]


def _read(rows: Any, indices: range) -> list[dict[str, Any]]:
    """Returns rows of a data set with the format "arrow". Raises BadRecord."""
    try:
        table = rows[indices]
        table.validate(full=True)  # Arrow reads damaged offsets beyond its memory
        return table.to_pylist()
    # The library raises all kinds of errors on a damaged file.
    except Exception as error:
        raise BadRecord(f"damaged row: {first_line(error)}") from error
