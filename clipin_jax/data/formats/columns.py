"""What the columns of a table mean: the picture, its captions, its label.

Shared by all sources whose records have named values: tables of text, Parquet,
ArrayRecord, Hugging Face datasets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from clipin_jax.data import storage
from clipin_jax.data.formats.json_file import captions_of, first_few
from clipin_jax.data.source import Annotations, BadRecord
from clipin_jax.errors import ClipinError

_MOST_CLASSES = 1 << 20  # a label above is no index of a class
_NUMBER = re.compile(r"\d{1,18}(\.0+)?")  # also as tables write whole numbers: 3.0
_SHOWN = 32  # characters of a value in a message


class Columns:
    """Which columns are read, and what their values say.

    Args:
      source: name of the source, for messages.
      image: the column with the picture.
      captions: the column with captions, or several, which are then the kinds.
      label: None, or the column with the class.
      classes: names of the classes in label order, () if they are not known.

    Attributes:
      image, label: as given.
      captions: as given, always a tuple.
      texts: all columns besides the picture's.
      classes: as given, or as `find_classes` found them.

    Raises:
      ClipinError: names that are empty or come twice, classes without a label.
    """

    def __init__(
        self,
        source: str,
        image: str,
        captions: str | Sequence[str],
        label: str | None,
        classes: Sequence[str],
    ):
        self._source = source
        self.image, self.label = image, label or None
        self.captions = (captions,) if isinstance(captions, str) else tuple(captions)
        for key, names in (("image", (image,)), ("captions", self.captions)):
            if not names or not all(isinstance(n, str) and n for n in names):
                raise ClipinError(f"{source}.{key} is {names!r}; it must name a column")
        if len(set(self.captions)) < len(self.captions):
            raise ClipinError(
                f"{source}.captions is {captions!r}: a column comes twice"
            )
        if classes and not self.label:
            raise ClipinError(f"{source}.classes has names, but {source}.label none")
        if isinstance(classes, str) or len(set(classes)) < len(classes):
            raise ClipinError(
                f"{source}.classes is {classes!r}; it must be a list of different names"
            )
        self.texts = tuple(dict.fromkeys((*self.captions, *filter(None, [self.label]))))
        self._set_classes(classes)

    def _set_classes(self, classes: Sequence[str]) -> None:
        self.classes = tuple(map(str, classes))
        self._place = {name: number for number, name in enumerate(self.classes)}

    def annotations(self, values: Mapping[str, Any]) -> Annotations:
        """Captions, kinds and label of a record.

        Args:
          values: of all columns in `texts` that the record has. Captions are a text, a
            list of texts, or None; a label is an index, a name, or a list of those.

        Raises:
          BadRecord: no caption, no label, or a value that is neither.
        """
        said = [(kind, text) for kind in self.captions for text in _texts(values, kind)]
        if not said:
            raise BadRecord("no caption")
        annotations: Annotations = {"captions": tuple(text for _, text in said)}
        if len(self.captions) > 1:
            annotations["kinds"] = tuple(kind for kind, _ in said)
        if self.label:
            annotations["label"] = self._label(values.get(self.label))
        return annotations

    def find_classes(self, values: Iterable[Any]) -> None:
        """Takes the classes from all labels there are, unless they were given.

        Numbers are indices, and the classes are called by them. Names are sorted.

        Raises:
          ClipinError: no labels, numbers and names, or numbers that are no indices.
        """
        if self.classes or not self.label:
            return
        numbers, names = set(), set()
        where = f"{self._source}: column {self.label!r}"
        try:
            different = _different(values)
        except OSError as error:
            raise ClipinError(f"{where} cannot be read: {one_line(error)}") from error
        for value in different:
            number = _number(value)
            if number is not None:
                numbers.add(number)
            elif isinstance(value, str) and value.strip():
                names.add(value.strip())
        if numbers and names:
            raise ClipinError(
                f"{where} has numbers ({first_few(sorted(numbers))}) and names "
                f"({first_few(sorted(names))}); set source.classes to the names in "
                "order"
            )
        if not numbers and not names:
            raise ClipinError(f"{where} has no label; set source.label")
        if numbers and max(numbers) >= _MOST_CLASSES:
            raise ClipinError(f"{where} has {max(numbers)}, which is no class index")
        self._set_classes(sorted(names) or [*map(str, range(max(numbers) + 1))])

    def _label(self, value: Any) -> int | list[int]:
        if isinstance(value, list):
            return [self._index(each) for each in value]
        return self._index(value)

    def _index(self, value: Any) -> int:
        if value is None or value == "":
            raise BadRecord("no label")
        if isinstance(value, str) and value.strip() in self._place:
            return self._place[value.strip()]
        index = _number(value)
        if index is None and not self.classes:
            raise BadRecord(f"label {_short(value)} is no index; set source.classes")
        if index is None or self.classes and index >= len(self.classes):
            raise BadRecord(
                f"label {_short(value)} is none of {len(self.classes)} classes"
            )
        return index


def check_columns(
    wanted: Iterable[str], there: Sequence[str], where: str, remark: str = ""
) -> None:
    """Raises ClipinError where a column is missing, with the nearest name.

    Args:
      wanted: names.
      there: the columns that there are.
      where: the file.
      remark: what else to say of the columns.
    """
    for name in wanted:
        if name not in there:
            near = get_close_matches(name, there, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ClipinError(
                f"{where} has no column {name!r}{hint}; there are "
                f"{', '.join(map(repr, there)) or 'none'}{remark}. Set source.image, "
                "source.captions and source.label"
            )


def read_image(value: Any, folder: str) -> bytes:
    """The file that a value is or names.

    Args:
      value: the file's bytes, its path, or {"bytes": ..., "path": ...} with either.
      folder: what paths are relative to.

    Raises:
      BadRecord: there is none.
      OSError: it cannot be read.
    """
    if isinstance(value, dict):
        inside = value.get("bytes")
        value = value.get("path") if inside is None else inside
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str) or not value.strip():
        raise BadRecord("no picture")
    path = image_path(value, folder)
    try:
        return storage.read(path)
    except OSError:
        raise
    # A zero in a local name; of stores, whatever their libraries raise.
    except Exception as error:
        if storage.is_remote(path):
            raise OSError(f"{path}: {type(error).__name__}: {error}") from error
        raise BadRecord("no valid file name") from error


def image_path(name: str, folder: str) -> str:
    """Where a picture lies. Whole paths and URLs stay what they are."""
    if storage.is_remote(name) or name.startswith("/"):
        return name
    return storage.join(folder, name)


def folder_of(path: str) -> str:
    """The folder that a file lies in, by path or URL."""
    return path.rpartition("/")[0] or ("/" if path.startswith("/") else "")


def expand_all(source: str, files: str | Sequence[str]) -> list[str]:
    """The files that one pattern or several stand for, each once.

    Raises:
      ClipinError: no pattern, or no such file.
    """
    patterns = [files] if isinstance(files, str) else list(files)
    if not patterns or not all(isinstance(each, str) and each for each in patterns):
        raise ClipinError(f"{source}.files is {files!r}; it must name files")
    return list(dict.fromkeys(p for each in patterns for p in storage.expand(each)))


def one_line(error: Any, most: int = 200) -> str:
    """What an exception or a type calls itself, cut to a line."""
    return (str(error).splitlines() or [type(error).__name__])[0][:most]


def _texts(values: Mapping[str, Any], column: str) -> tuple[str, ...]:
    value = values.get(column)
    texts = value if isinstance(value, list) else [] if value is None else [value]
    texts = [text for text in texts if text is not None]
    if not all(isinstance(text, str) for text in texts):
        raise BadRecord(f"{column}: neither text nor a list of texts")
    return captions_of(texts)


def _different(values: Iterable[Any]) -> Iterable[Any]:
    seen = set()
    for value in values:
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str | int | float):
                seen.add(each)
    return seen


def _number(value: Any) -> int | None:
    """The index that a value is, None if it is none."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value) if "." in value else int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < 1 << 62 else None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
