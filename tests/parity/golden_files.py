"""Golden files: the results of published code for given inputs and weights.

A file has one of two forms. A whole file has one array per name. A sketched file,
written by `make_sketches`, has whole inputs, and sketches of derived arrays. All its
arrays are packed: the headers of a thousand small arrays take more room than their
numbers. Of inputs and weights that PyTorch drew, it has the seed.
"""

import dataclasses
import json
import math
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.parity.compare import LENGTH, Golden, Sketch
from tests.parity.normal_draws import Draw

CONTENTS = "contents"  # of a sketched file: [name, kind, shape, *draw] of each array
CHECKSUM = "checksum"  # of the numbers that are drawn
DRAWN = "drawn"
SKETCH = "sketch"
SINGLE = "float64 in 32 bits"
DTYPES = {SKETCH: np.dtype(np.float64), SINGLE: np.dtype(np.float32)}


@dataclasses.dataclass(frozen=True)
class GoldenFile:
    """The content of one golden file.

    Attributes:
      name: of the file.
      arrays: by name; those of a sketched file may be sketches.
      meta: where the numbers come from, sizes and settings.
    """

    name: str
    arrays: dict[str, Golden]
    meta: dict[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.arrays[key]

    @property
    def sizes(self) -> dict[str, Any]:
        """The sizes and settings of the model."""
        return self.meta["config"]

    @property
    def steps(self) -> list[int]:
        """The numbers of the training steps, from 1."""
        return self.list_numbers("step{}/losses/")

    def list_numbers(self, prefix: str) -> list[int]:
        """Returns the numbers, in order, that {} stands for in names with `prefix`."""
        pattern = re.escape(prefix).replace(r"\{\}", r"(\d+)")
        matches = (re.match(pattern, name) for name in self.arrays)
        numbers = sorted({int(match[1]) for match in matches if match})
        assert numbers, f"{self.name} has no {prefix}"
        return numbers

    def section(self, prefix: str) -> dict[str, Any]:
        """Returns the arrays of a prefix, by the rest of their names."""
        arrays = select_prefix(self.arrays, prefix)
        assert arrays, f"{self.name} has no {prefix}"
        return arrays

    def section_or_skip(self, prefix: str) -> dict[str, Any]:
        """Returns `section(prefix)`; skips the test if the file does not have it."""
        if not select_prefix(self.arrays, prefix):
            pytest.skip(f"{self.name} has no {prefix}")
        return self.section(prefix)


def select_prefix(arrays: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Returns the entries whose keys start with a prefix, by the rest of the key."""
    return {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}


def find_file(folder: Path, name: str) -> Path:
    """Returns the path of a file; skips the test if it does not exist."""
    if not (folder / name).is_file():
        pytest.skip(f"no {name} in {folder}")
    return folder / name


def load(folder: Path, name: str) -> GoldenFile:
    """Reads an `.npz` file, whole or sketched; skips the test if it does not exist."""
    arrays = read_arrays(find_file(folder, name))
    meta = json.loads(str(arrays.pop("meta")))
    return GoldenFile(name, arrays, meta)


def load_json(folder: Path, name: str) -> dict[str, Any]:
    """Reads a `.json` file; skips the test if it does not exist."""
    return json.loads(find_file(folder, name).read_text("utf-8"))


def read_arrays(path: Path) -> dict[str, Any]:
    """Reads all arrays of an `.npz` file, whole or sketched."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    return _unpacked(arrays) if CONTENTS in arrays else arrays


def write_arrays(
    path: Path, arrays: dict[str, Golden], draws: Mapping[str, Draw] | None = None
) -> None:
    """Writes a packed file: equal arrays give equal bytes.

    Numbers of one kind are stored byte plane by byte plane. The planes of sign and
    exponent then compress well; the others are noise.

    Args:
      path: of the file.
      arrays: by name; `meta` is one of them.
      draws: by name, of arrays that are drawn when the file is read.
    """
    draws = draws or {}
    contents, packed, checksum = [], {}, 0
    for name, value in arrays.items():
        if name in draws:
            contents.append((name, DRAWN, value.shape, *draws[name]))
            checksum = zlib.crc32(draws[name].numbers(value.size), checksum)
        elif name != "meta":
            kind, numbers = _packed(value)
            contents.append((name, kind, value.shape))
            packed.setdefault(kind, []).append(numbers.ravel())
    planes = {
        kind: np.concatenate(parts).view(np.uint8).reshape(-1, parts[0].itemsize).T
        for kind, parts in packed.items()
    }
    head = {"meta": arrays["meta"], CONTENTS: json.dumps(contents), CHECKSUM: checksum}
    np.savez_compressed(path, **head, **planes)


def _packed(value: Golden) -> tuple[str, np.ndarray]:
    """Returns the kind of an array and its numbers, in 32 bits if that is exact."""
    if isinstance(value, Sketch):
        return SKETCH, value.numbers
    if value.dtype == np.float64:
        single = value.astype(np.float32)
        if single.astype(np.float64).tobytes() == value.tobytes():
            return SINGLE, single
    return value.dtype.name, value


def _unpacked(file: dict[str, np.ndarray]) -> dict[str, Any]:
    meta, contents, expected = (file.pop(k) for k in ("meta", CONTENTS, CHECKSUM))
    numbers = {
        kind: np.ascontiguousarray(planes.T).view(DTYPES.get(kind, kind)).ravel()
        for kind, planes in file.items()
    }
    arrays, used, checksum = {"meta": meta}, dict.fromkeys(numbers, 0), 0
    for name, kind, shape, *draw in json.loads(str(contents)):
        if kind == DRAWN:
            part = Draw(*draw).numbers(math.prod(shape))
            checksum = zlib.crc32(part, checksum)
        else:
            size = LENGTH if kind == SKETCH else math.prod(shape)
            part = numbers[kind][used[kind] : used[kind] + size]
            used[kind] += size
        if kind == SKETCH:
            arrays[name] = Sketch(tuple(shape), part)
        else:
            part = part.astype(np.float64) if kind == SINGLE else part
            arrays[name] = part.reshape(shape)
    assert checksum == expected, "this machine draws other normal numbers"
    return arrays
