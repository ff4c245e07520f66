"""Data sets of the library `datasets`, as its `save_to_disk` writes them.

Nothing is downloaded: whoever has `load_dataset(...)` calls `.save_to_disk(folder)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clipin_jax.data import storage
from clipin_jax.data.formats.columns import (
    Columns,
    check_columns,
    one_line,
    read_image,
)
from clipin_jax.data.formats.json_file import read_json
from clipin_jax.data.source import (
    Annotations,
    BadRecord,
    Record,
    fingerprint,
)
from clipin_jax.errors import ClipinError, check_choice


class HfDatasets:
    """One record per row. Pictures stay encoded.

    Args:
      folder: what `save_to_disk` wrote, of one split or of several.
      split: which of them; "" where there is only one.
      image: the column with the picture: of the feature Image, encoded bytes, or a path
        relative to the folder.
      captions: the column with a text or a list of texts; or several, which are then
        the kinds of the captions.
      label: None, or the column with the class or several.
      classes: names of the classes in label order; (): those of the feature ClassLabel,
        else those that occur, sorted.

    Raises:
      ClipinError: the library is not installed, the folder holds no such data set,
        there is no such split or column, a column is of another kind, there are no
        rows.
    """

    def __init__(
        self,
        folder: str,
        split: str = "",
        image: str = "image",
        captions: str | Sequence[str] = "caption",
        label: str | None = None,
        classes: Sequence[str] = (),
    ):
        rows, self._folder = _load(folder, split)
        columns = Columns("hf_datasets", image, captions, label, classes)
        check_columns((image, *columns.texts), rows.column_names, self._folder)
        if not len(rows):
            raise ClipinError(f"{self._folder} has no rows; set source.folder")
        names = _class_names(rows.features[label]) if label else ()
        if names and not classes:
            columns = Columns("hf_datasets", image, captions, label, names)
        if label and not columns.classes:
            columns.find_classes(rows.with_format(None)[label])
        self._columns, self.classes = columns, columns.classes
        _check_kinds(rows.features, columns, self._folder)
        self._texts = rows.select_columns(list(columns.texts)).with_format(None)
        self._pictures = _encoded(rows.select_columns([image]).with_format(None), image)
        self.fingerprint = fingerprint(
            "hf_datasets 1",
            _digest(rows, self._folder),
            (image, columns.captions, label, self.classes),
        )

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, index: int) -> Record:
        """The record; image: the file's bytes."""
        annotations = self.annotations(index)
        picture = _row(self._pictures, index)[self._columns.image]
        return {"image": read_image(picture, self._folder), **annotations}

    def annotations(self, index: int) -> Annotations:
        """Captions, kinds and label of a record; of pictures nothing is read."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        return self._columns.annotations(_row(self._texts, index))

    def describe(self, index: int) -> str:
        """Row and folder of a record; the first one is row 0."""
        return f"row {index} of {self._folder}"


def _load(folder: str, split: str) -> tuple[Any, str]:
    """The rows of a split, and the folder that they lie in. Raises ClipinError."""
    try:
        # Imported here: it takes two seconds, and is an extra.
        import datasets as library
    except ImportError as error:
        raise ClipinError(
            "source hf_datasets needs a library that is not installed: "
            "pip install 'clipin_jax[hf]'"
        ) from error
    folder = storage.join(folder, "").rstrip("/")
    try:
        found = library.load_from_disk(folder)
    # A damaged description or file fails in as many ways as there are parts of it.
    except Exception as error:
        raise ClipinError(
            f"{folder} cannot be read as a data set that save_to_disk wrote: "
            f"{one_line(error)}; set source.folder"
        ) from error
    if not isinstance(found, library.DatasetDict):
        if split:
            raise ClipinError(
                f"{folder} has no splits, but source.split is {split!r}; leave it empty"
            )
        return found, folder
    if not split and len(found) == 1:
        [split] = found
    check_choice("hf_datasets.split", split, tuple(found))
    return found[split], storage.join(folder, split)


def _digest(rows: Any, folder: str) -> str:
    """What the library calls the data, and the sizes of its files."""
    path = storage.join(folder, "state.json")
    _, state = read_json(path, "source.folder")
    names = [str(each.get("filename")) for each in state.get("_data_files", [])]
    sizes = [storage.size(storage.join(folder, name)) for name in names]
    return fingerprint(state.get("_fingerprint"), names, sizes, len(rows))


def _class_names(feature: Any) -> tuple[str, ...]:
    """Of a class label, or of a list of them."""
    return tuple(getattr(_inner(feature), "names", ()))


def _inner(feature: Any) -> Any:
    """What a list is a list of; anything else as it is."""
    if isinstance(feature, list) and len(feature) == 1:
        return feature[0]
    return getattr(feature, "feature", feature)


def _check_kinds(features: Any, columns: Columns, folder: str) -> None:
    meanings = [(name, "text", _is_text) for name in columns.captions]
    for name, meaning, fits in [(columns.image, "a picture", _is_picture), *meanings]:
        if not fits(features[name]):
            raise ClipinError(
                f"{folder}: column {name!r} is not {meaning}, but "
                f"{one_line(features[name])}"
            )


def _is_text(feature: Any) -> bool:
    return _kind(_inner(feature)) in ("string", "large_string")


def _is_picture(feature: Any) -> bool:
    if isinstance(feature, dict):
        return bool({"bytes", "path"} & set(feature))
    plain = ("string", "large_string", "binary", "large_binary")
    return type(feature).__name__ == "Image" or _kind(feature) in plain


def _kind(feature: Any) -> str:
    return str(getattr(feature, "dtype", ""))


def _encoded(rows: Any, image: str) -> Any:
    """The same rows, pictures as the files they are."""
    import datasets as library

    if isinstance(rows.features[image], library.Image):
        return rows.cast_column(image, library.Image(decode=False))
    return rows


def _row(rows: Any, index: int) -> dict[str, Any]:
    try:
        return rows[index]
    # Whatever the reader of a damaged file says.
    except Exception as error:
        raise BadRecord(f"damaged row: {one_line(error)}") from error
