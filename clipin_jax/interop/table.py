"""Tables of names, both ways: where another library keeps each of our arrays.

A table says what the arrays of one ecosystem are in ours. The same rows read files and
write them. Paths and names may contain `{n}`, the number of a layer. Ours are those of
layers that are not scanned.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from clipin_jax.core.parameter_paths import unflatten
from clipin_jax.errors import ClipinError
from clipin_jax.interop.layouts import SAME, TRANSPOSED, Layout, joined, parted


class Row(NamedTuple):
    """Arrays that belong together.

    Attributes:
      ours: paths, such as `towers/image/ln_post/scale`.
      theirs: names, such as `visual.ln_post.weight`.
      layout: between the two.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    layout: Layout = SAME


class Place(NamedTuple):
    """A row, for one layer.

    Attributes:
      paths: of ours.
      names: of theirs.
      layout: of the row.
    """

    paths: tuple[str, ...]
    names: tuple[str, ...]
    layout: Layout


class Table:
    """The names of one ecosystem, both ways."""

    def __init__(self, rows: Iterable[Row], ignored: Sequence[str] = ()) -> None:
        """Takes rows.

        Args:
          rows: of which each path and each name stands in one only.
          ignored: regular expressions of names that hold no parameter.
        """
        rows = tuple(rows)
        self._by_path = _Templates({path: row for row in rows for path in row.ours})
        self._by_name = _Templates({name: row for row in rows for name in row.theirs})
        self._ignored = [re.compile(pattern) for pattern in ignored]

    def place_of(self, path: str) -> Place | None:
        """Returns where another library keeps a path of ours; None if nowhere."""
        return self._by_path.find(path)

    def place_named(self, name: str) -> Place | None:
        """Returns what a name of theirs is in ours; None if the table has none."""
        return self._by_name.find(name)

    def is_ignored(self, name: str) -> bool:
        """Whether a name holds no parameter, such as a buffer of position ids."""
        return any(pattern.search(name) for pattern in self._ignored)

    def to_flat(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns our path -> array of arrays by their names.

        Raises:
          ClipinError: a name that the table does not have, or an array without those
            that belong to it.
        """
        flat: dict[str, np.ndarray] = {}
        for name in arrays:
            if self.is_ignored(name):
                continue
            place = self.place_named(name)
            if place is None:
                raise ClipinError(f"{name!r} is no array that this table knows")
            if place.paths[0] in flat:
                continue
            if absent := [other for other in place.names if other not in arrays]:
                raise ClipinError(f"{name!r} is there, but {absent[0]!r} is not")
            values = place.layout.to_ours([arrays[other] for other in place.names])
            flat.update(zip(place.paths, values, strict=True))
        return flat

    def to_tree(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Returns `to_flat` as a nested dict."""
        return unflatten(self.to_flat(arrays))

    def from_flat(self, flat: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns their name -> array of our arrays by path.

        Raises:
          ClipinError: a path that the table does not have.
        """
        arrays: dict[str, np.ndarray] = {}
        for path in flat:
            place = self.place_of(path)
            if place is None:
                raise ClipinError(f"{path} has no place in this format")
            if place.names[0] not in arrays:
                values = place.layout.to_theirs([flat[other] for other in place.paths])
                arrays.update(zip(place.names, values, strict=True))
        return arrays


def linear(ours: str, theirs: str) -> tuple[Row, Row]:
    """Returns the rows of a linear layer of PyTorch, whose kernel is transposed."""
    return matrix(ours, theirs), same(f"{ours}/bias", f"{theirs}.bias")


def matrix(ours: str, theirs: str) -> Row:
    """Returns the row of a linear layer of PyTorch without bias."""
    return Row((f"{ours}/kernel",), (f"{theirs}.weight",), TRANSPOSED)


def norm(ours: str, theirs: str) -> tuple[Row, Row]:
    """Returns the rows of a layer norm of PyTorch."""
    scale = same(f"{ours}/scale", f"{theirs}.weight")
    return scale, same(f"{ours}/bias", f"{theirs}.bias")


def batch_norm(ours: str, theirs: str) -> tuple[Row, ...]:
    """Returns the rows of a batch norm of PyTorch, with its statistics."""
    mean = same(f"{ours}/mean", f"{theirs}.running_mean")
    return *norm(ours, theirs), mean, same(f"{ours}/var", f"{theirs}.running_var")


def same(ours: str, theirs: str) -> Row:
    """Returns the row of an array that is the same."""
    return Row((ours,), (theirs,))


def fused(
    ours: str, theirs: str, parts: tuple[str, ...] = ("q", "k", "v")
) -> list[Row]:
    """Returns the rows of a linear layer that others keep as several.

    Args:
      ours: path of the layer.
      theirs: name of one of theirs, with `{x}` for a part.
      parts: what `{x}` stands for: queries, keys, values.
    """
    names = [theirs.replace("{x}", part) for part in parts]
    kernels = tuple(f"{name}.weight" for name in names)
    biases = tuple(f"{name}.bias" for name in names)
    return [
        Row((f"{ours}/kernel",), kernels, joined(TRANSPOSED, len(parts))),
        Row((f"{ours}/bias",), biases, joined(SAME, len(parts))),
    ]


def parted_attention(ours: str, theirs: str, *, one_matrix: bool = True) -> list[Row]:
    """Returns the rows of PyTorch's attention where ours has a layer for each part.

    Args:
      ours: path of the attention.
      theirs: name of the module.
      one_matrix: whether queries, keys and values are as wide, and so in one matrix.
    """
    parts = {"query_in": "q", "key_in": "k", "value_in": "v"}
    kernels = tuple(f"{ours}/{part}/kernel" for part in parts)
    biases = tuple(f"{ours}/{part}/bias" for part in parts)
    if one_matrix:
        rows = [Row(kernels, (f"{theirs}.in_proj_weight",), parted(TRANSPOSED, 3))]
    else:
        names = (f"{theirs}.{part}_proj_weight" for part in parts.values())
        pairs = zip(kernels, names, strict=True)
        rows = [Row((kernel,), (name,), TRANSPOSED) for kernel, name in pairs]
    bias = Row(biases, (f"{theirs}.in_proj_bias",), parted(SAME, 3))
    return [*rows, bias, *linear(f"{ours}/out", f"{theirs}.out_proj")]


class _Templates:
    """Finds the row whose template a path or name matches."""

    def __init__(self, rows: Mapping[str, Row]) -> None:
        self._whole = {key: row for key, row in rows.items() if "{n}" not in key}
        self._patterns = [
            (re.compile(re.escape(key).replace(r"\{n\}", r"(\d+)")), row)
            for key, row in rows.items()
            if "{n}" in key
        ]

    def find(self, key: str) -> Place | None:
        if row := self._whole.get(key):
            return Place(*row)
        for pattern, row in self._patterns:
            if match := pattern.fullmatch(key):
                return Place(
                    tuple(path.replace("{n}", match[1]) for path in row.ours),
                    tuple(name.replace("{n}", match[1]) for name in row.theirs),
                    row.layout,
                )
        return None
