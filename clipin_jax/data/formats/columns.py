"""Maps the columns of tables to image, captions and label.

All sources whose records have named values use it: tables of text, Parquet,
ArrayRecord, JSON lists, Hugging Face datasets.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from clipin_jax import storage
from clipin_jax.data.formats.caption_values import caption_texts
from clipin_jax.data.formats.image_files import embedded_image
from clipin_jax.data.formats.labels import (
    LabelColumn,
    Labels,
    MemberColumns,
    Tables,
    class_annotations,
)
from clipin_jax.data.source import Annotations, BadRecord, clean_captions
from clipin_jax.errors import ClipinError, shorten

_SHOWN = 40  # columns in a message


class Columns:
    """Selects columns, and turns their values into annotations.

    Args:
      source: name of the source, for messages.
      image: the column with the image.
      captions: the column with captions; or several, whose names become the kinds of
        the captions; () to make the caption of the names of the record's classes.
      label: None, the column with the class, or one column per class.
      classes: names of the classes in label order, () if they are unknown.
      label_separator: between several labels in one text, such as "|"; "" if a text is
        one label.

    Attributes:
      image: as given.
      captions: as given, always a tuple.
      labels: reads the label; None without one.
      texts: all columns but the image's.

    Raises:
      ClipinError: names that are empty or repeated, classes without a label.
    """

    def __init__(
        self,
        source: str,
        image: str,
        captions: str | Sequence[str],
        label: str | Sequence[str] | None,
        classes: Sequence[str],
        label_separator: str = "",
    ):
        self.image = image
        self.captions = (captions,) if isinstance(captions, str) else tuple(captions)
        checked: dict[str, Sequence[str]] = {"image": (image,)}
        if self.captions or not label:
            checked["captions"] = self.captions
        for key, names in checked.items():
            if not names or not all(isinstance(n, str) and n for n in names):
                raise ClipinError(f"{source}.{key} is {names!r}; it must name a column")
        if len(set(self.captions)) < len(self.captions):
            raise ClipinError(
                f"{source}.captions is {captions!r}: a column comes twice"
            )
        if classes and not label:
            raise ClipinError(f"{source}.classes has names, but {source}.label none")
        if label_separator and not isinstance(label, str):
            raise ClipinError(
                f"{source}.label_separator is {label_separator!r}, but {source}.label "
                "names no single column with labels"
            )
        self.labels: Labels | None = None
        if isinstance(label, str) and label:
            self.labels = LabelColumn(source, label, classes, label_separator)
        elif label:
            self.labels = MemberColumns(source, label, classes)
        self.texts = tuple(dict.fromkeys((*self.captions, *self.label_columns)))

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns with the label, () without one."""
        return self.labels.columns if self.labels else ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in label order, () without a label."""
        return self.labels.classes if self.labels else ()

    def check_labels(self, tables: Tables) -> None:
        """Checks all labels once if that is needed; see `Labels.check`."""
        if self.labels:
            self.labels.check(tables)

    def annotations(self, values: Mapping[str, Any]) -> Annotations:
        """Returns captions, kinds and label of a record.

        Args:
          values: column -> value, of the columns in `texts` that the record has.
            Captions are a text, a list of texts, or None; see `labels` for labels.

        Raises:
          BadRecord: no caption, no label, or a value that is neither.
        """
        if self.labels and not self.captions:
            return class_annotations(self.classes, self.labels.read(values))
        pairs = [
            (kind, text) for kind in self.captions for text in _texts(values, kind)
        ]
        if not pairs:
            raise BadRecord("no caption")
        annotations: Annotations = {"captions": tuple(text for _, text in pairs)}
        if len(self.captions) > 1:
            annotations["kinds"] = tuple(kind for kind, _ in pairs)
        if self.labels:
            annotations["label"] = self.labels.read(values)
        return annotations


def check_columns(
    columns: Iterable[str], present: Sequence[str], where: str, remark: str = ""
) -> None:
    """Checks that a table has columns.

    Args:
      columns: names of the columns it must have.
      present: names of the columns it has.
      where: the file.
      remark: added to the message.

    Raises:
      ClipinError: a column is missing, with the nearest name.
    """
    for name in columns:
        if name not in present:
            near = get_close_matches(name, present, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            shown = [repr(shorten(column)) for column in present[:_SHOWN]]
            shown += ["..."] * (len(present) > _SHOWN)
            raise ClipinError(
                f"{where} has no column {name!r}{hint}; there are "
                f"{', '.join(shown) or 'none'}{remark}. Set source.image, "
                "source.captions and source.label"
            )


def read_image(value: Any, folder: str) -> bytes:
    """Returns the bytes of an image file.

    Args:
      value: the bytes, the path, the bytes in base64, or {"bytes": ..., "path": ...}
        with either.
      folder: base of relative paths.

    Raises:
      BadRecord: the value is none of these.
      OSError: the file cannot be read.
    """
    if isinstance(value, dict):
        content = value.get("bytes")
        value = value.get("path") if content is None else content
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str) or not value.strip():
        raise BadRecord("no image")
    path = image_path(value, folder)
    try:
        return storage.read(path)
    except OSError as error:
        if (content := embedded_image(value)) is not None:
            return content
        if error.errno == errno.ENAMETOOLONG:
            raise BadRecord(f"no file name: {shorten(value)}") from error
        if error.errno == errno.EINVAL:
            raise BadRecord("no valid file name") from error
        raise
    except Exception as error:  # stores raise all kinds of errors
        raise OSError(f"{path}: {type(error).__name__}: {error}") from error


def image_path(name: str, folder: str) -> str:
    """Returns the path of an image file. Absolute paths and URLs are kept.

    White space around the name is removed, as it is around a column's name.
    """
    name = name.strip()
    if storage.is_remote(name) or name.startswith("/"):
        return name
    return storage.join(folder, name)


def _texts(values: Mapping[str, Any], column: str) -> tuple[str, ...]:
    return clean_captions(caption_texts(values.get(column), column))
