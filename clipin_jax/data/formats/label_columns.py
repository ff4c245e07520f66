"""Columns of tables that describe classification: a column a class, no captions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clipin_jax.data.formats.class_labels import annotations_of
from clipin_jax.data.formats.columns import Columns, one_line
from clipin_jax.data.formats.rows import Rows
from clipin_jax.data.source import Annotations, BadRecord
from clipin_jax.errors import ClipinError


class LabelColumns(Columns):
    """As `Columns`, but a record's classes may stand in several columns of 0 and 1.

    Args:
      captions: as there; () where there is a label: captions are the classes' names.
      label: as there; or several columns, one for each class.
      classes: as there; (): the names of the several columns.

    Raises:
      ClipinError: as there; not a name for each of the several columns.
    """

    def __init__(
        self,
        source: str,
        image: str,
        captions: str | Sequence[str],
        label: str | Sequence[str] | None,
        classes: Sequence[str],
    ):
        one = label if isinstance(label, str) else None
        self._members = () if one or not label else tuple(label)
        unsaid = bool(label) and not isinstance(captions, str) and not captions
        # The parent wants a caption: the picture's name stands in for it.
        texts, names = image if unsaid else captions, () if self._members else classes
        super().__init__(source, image, texts, one, names)
        if unsaid:
            self.captions = ()
        labels = self._members or ((one,) if one else ())
        self.texts = tuple(dict.fromkeys((*self.captions, *labels)))
        if self._members:
            self._name_members(classes)

    def _name_members(self, classes: Sequence[str]) -> None:
        names = classes or self._members
        sound = all(isinstance(each, str) and each for each in self._members)
        if not sound or len(set(self._members)) < len(self._members):
            raise ClipinError(
                f"{self._source}.label is {self._members!r}; it must be a column, or "
                "several different ones"
            )
        if isinstance(names, str) or len(set(names)) != len(self._members):
            raise ClipinError(
                f"{self._source}.classes is {classes!r}; there must be a name, and "
                f"another one, for each of the {len(self._members)} columns of "
                f"{self._source}.label"
            )
        self._set_classes(names)

    def annotations(self, values: Mapping[str, Any]) -> Annotations:
        """Captions, kinds and label of a record; see `Columns.annotations`.

        The label is a list of indices where there are several columns.

        Raises:
          BadRecord: as there; a value of several columns is neither 0 nor 1.
        """
        if self.captions:
            found = super().annotations(values)
            return found | {"label": self._belongs(values)} if self._members else found
        if self._members:
            return annotations_of(self.classes, self._belongs(values))
        return annotations_of(self.classes, self._label(values.get(str(self.label))))

    def read_classes(self, tables: Sequence[Rows]) -> None:
        """Takes the classes from the labels of tables; checks those of several columns.

        Raises:
          ClipinError: see `Columns.find_classes`; a value that is neither 0 nor 1.
        """
        if self.label:
            self.find_classes(row.get(self.label) for t in tables for row in t.values())
        if self._members:
            for table in tables:
                self._check(table)

    def _check(self, table: Rows) -> None:
        wrong = ((c, v) for c, v in self._members_of(table) if _unlike(v))
        try:
            column, value = next(wrong, (None, None))
        except OSError as error:
            raise ClipinError(
                f"{table.path} cannot be read: {one_line(error)}"
            ) from error
        if column is not None:
            raise ClipinError(
                f"{table.path}: column {column!r} has {one_line(repr(value), 32)}; of "
                "several columns of labels each must have 0 or 1. Leave it out of "
                "source.label, or mend it"
            )

    def _members_of(self, table: Rows) -> Iterator[tuple[str, Any]]:
        for row in table.values():
            for column in self._members:
                yield column, row.get(column)

    def _belongs(self, values: Mapping[str, Any]) -> list[int]:
        found = []
        for index, column in enumerate(self._members):
            member = _member(values.get(column))
            if member is None:
                raise BadRecord(f"no label of 0 or 1 in column {column!r}")
            found += [index] * member
        return found


def _member(value: Any) -> bool | None:
    """Whether a value is 1; None where it is neither 0 nor 1."""
    if isinstance(value, str):
        value = {"0": 0, "0.0": 0, "1": 1, "1.0": 1}.get(value.strip())
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else None


def _unlike(value: Any) -> bool:
    """Whether a value is there and neither 0 nor 1."""
    empty = value is None or isinstance(value, str) and not value.strip()
    return not empty and _member(value) is None
