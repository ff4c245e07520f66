"""Reads class labels from columns of tables, as indices into a list of classes.

Either one column has the index or the name of the class, or each class has a column of
0 and 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

from clipin_jax.data.source import Annotations, BadRecord
from clipin_jax.errors import ClipinError, first_few, first_line

NO_CLASS = "none of the classes"  # the caption of a record without a class

_MOST_CLASSES = 1 << 20  # a larger number is no class index
_INDEX = re.compile(r"\d{1,18}(\.0+)?")  # some tables write whole numbers as 3.0
_ALWAYS_JOINING = ("|", ";")
_JOINING = (*_ALWAYS_JOINING, ",", "/")  # signs that may join labels
_SHOWN = 32  # characters of a value in a message
_MEMBERSHIP = {"0": 0, "0.0": 0, "1": 1, "1.0": 1}

Tables = Mapping[str, Iterable[Mapping[str, Any]]]
"""Name of a table, for messages, -> its rows: values by column."""


class Labels(Protocol):
    """Reads the label of a record from its columns.

    Attributes:
      columns: the columns that it reads.
      classes: names of the classes in label order; () until they are known.
    """

    columns: tuple[str, ...]
    classes: tuple[str, ...]

    def read(self, values: Mapping[str, Any]) -> int | list[int]:
        """Returns the label of a record. Raises BadRecord if it has none."""
        ...

    def check(self, tables: Tables) -> None:
        """Checks all labels of a data set once, if that is needed.

        Raises:
          ClipinError: labels that cannot be classes.
        """
        ...


def class_annotations(classes: Sequence[str], label: int | list[int]) -> Annotations:
    """Returns a label with a caption made of the names of its classes."""
    indices = [label] if isinstance(label, int) else label
    caption = ", ".join(classes[index] for index in indices) or NO_CLASS
    return {"captions": (caption,), "label": label}


class LabelColumn:
    """One column with the index or the name of the class, or a list of those.

    Args:
      source: name of the source, for messages.
      column: with the label.
      classes: names of the classes in label order; () to take them from the labels.
      separator: between several labels in one text; "" if a text is one label.

    Raises:
      ClipinError: two classes have one name.
    """

    def __init__(
        self, source: str, column: str, classes: Sequence[str], separator: str = ""
    ):
        if isinstance(classes, str) or len(set(classes)) < len(classes):
            raise ClipinError(
                f"{source}.classes is {classes!r}; it must be a list of different names"
            )
        self._source, self._column, self.columns = source, column, (column,)
        self._separator = separator
        self._set_classes(classes)

    def _set_classes(self, classes: Sequence[str]) -> None:
        self.classes = tuple(map(str, classes))
        self._index_of = {name: number for number, name in enumerate(self.classes)}

    def read(self, values: Mapping[str, Any]) -> int | list[int]:
        """Returns an index, or a list of them if the value is a list."""
        value = self._split(values.get(self._column))
        if isinstance(value, list):
            return [self._index(item) for item in value]
        return self._index(value)

    def _split(self, value: Any) -> Any:
        """Returns the labels of a text as a list; any other value unchanged."""
        if not self._separator or not isinstance(value, str):
            return value
        parts = [part.strip() for part in value.split(self._separator)]
        return list(filter(None, parts)) or ""

    def check(self, tables: Tables) -> None:
        """Takes the classes from all labels, unless they were given.

        Numbers are indices, and become the names of their classes. Names are sorted.

        Raises:
          ClipinError: no labels, numbers beside names, or numbers that are no indices.
        """
        if self.classes:
            return
        where = f"{self._source}: column {self._column!r}"
        rows = chain.from_iterable(tables.values())
        try:
            values = (self._split(row.get(self._column)) for row in rows)
            numbers, names = _split_labels(values)
        except OSError as error:
            raise ClipinError(f"{where} cannot be read: {first_line(error)}") from error
        if mark := _joined_by(names, numbers):
            joined = first_few(sorted(name for name in names if mark in name))
            raise ClipinError(
                f"{where} has several labels in one text ({joined}); set "
                f"source.label_separator={mark!r}, or source.classes to all names if "
                "they are single labels"
            )
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

    def _index(self, value: Any) -> int:
        if value is None or value == "":
            raise BadRecord("no label")
        if isinstance(value, str) and value.strip() in self._index_of:
            return self._index_of[value.strip()]
        index = _parse_index(value)
        if index is None and not self.classes:
            raise BadRecord(f"label {_shorten(value)} is no index; set source.classes")
        if index is None or self.classes and index >= len(self.classes):
            raise BadRecord(
                f"label {_shorten(value)} is none of {len(self.classes)} classes"
                + self._hint(value)
            )
        return index

    def _hint(self, value: Any) -> str:
        """Returns what to do about a text with several classes; "" for others."""
        if not isinstance(value, str):
            return ""
        mark = _joined_by({value}, set()) or _joined_by({value, *self.classes}, set())
        return f"; set source.label_separator={mark!r}" if mark in value else ""


class MemberColumns:
    """One column per class: 1 if the record belongs to it, else 0.

    Args:
      source: name of the source, for messages.
      columns: one per class.
      classes: names of the classes; () for the names of the columns.

    Raises:
      ClipinError: repeated columns, or not one different name for each of them.
    """

    def __init__(self, source: str, columns: Sequence[str], classes: Sequence[str]):
        self.columns = tuple(columns)
        valid = all(isinstance(name, str) and name for name in self.columns)
        if not valid or len(set(self.columns)) < len(self.columns):
            raise ClipinError(
                f"{source}.label is {self.columns!r}; it must be a column, or several "
                "different ones"
            )
        names = classes or self.columns
        if isinstance(names, str) or len(set(names)) != len(self.columns):
            raise ClipinError(
                f"{source}.classes is {classes!r}; there must be a name, and another "
                f"one, for each of the {len(self.columns)} columns of {source}.label"
            )
        self.classes = tuple(map(str, names))

    def read(self, values: Mapping[str, Any]) -> list[int]:
        """Returns the indices of the columns whose value is 1."""
        label = []
        for index, column in enumerate(self.columns):
            is_member = _parse_membership(values.get(column))
            if is_member is None:
                raise BadRecord(f"no label of 0 or 1 in column {column!r}")
            label += [index] * is_member
        return label

    def check(self, tables: Tables) -> None:
        """Checks that each column of each row has 0, 1 or an empty value."""
        for name, rows in tables.items():
            try:
                for row in rows:
                    self._check_row(row, name)
            except OSError as error:
                raise ClipinError(
                    f"{name} cannot be read: {first_line(error)}"
                ) from error

    def _check_row(self, row: Mapping[str, Any], table: str) -> None:
        for column in self.columns:
            value = row.get(column)
            is_empty = value is None or isinstance(value, str) and not value.strip()
            if not is_empty and _parse_membership(value) is None:
                raise ClipinError(
                    f"{table}: column {column!r} has {first_line(repr(value), _SHOWN)};"
                    " of several columns of labels each must have 0 or 1. Leave it out "
                    "of source.label, or correct it"
                )


def _split_labels(values: Iterable[Any]) -> tuple[set[int], set[str]]:
    """Returns the indices and the names among labels."""
    distinct = set()
    for value in values:
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str | int | float):
                distinct.add(item)
    numbers, names = set(), set()
    for value in distinct:
        number = _parse_index(value)
        if number is not None:
            numbers.add(number)
        elif isinstance(value, str) and value.strip():
            names.add(value.strip())
    return numbers, names


def _joined_by(names: set[str], numbers: set[int]) -> str:
    """Returns the sign that joins several labels in one name; "" if none does."""
    single = names | set(map(str, numbers))
    for mark in _JOINING:
        for name in names:
            parts = [part.strip() for part in name.split(mark)]
            if len(parts) > 1 and (mark in _ALWAYS_JOINING or set(parts) <= single):
                return mark
    return ""


def _parse_index(value: Any) -> int | None:
    """Returns a value as an index; None if it is not one."""
    if isinstance(value, str) and _INDEX.fullmatch(value.strip()):
        value = float(value) if "." in value else int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < 1 << 62 else None


def _parse_membership(value: Any) -> bool | None:
    """Returns whether a value is 1; None if it is neither 0 nor 1."""
    if isinstance(value, str):
        value = _MEMBERSHIP.get(value.strip())
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else None


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
