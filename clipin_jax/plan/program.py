"""Reads the text of a compiled XLA program: what runs, how often, and who asked for it.

The format is that of `jax.stages.Compiled.as_text()`, for TPU and CPU. Shapes are those
of one device.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

_BITS = {"pred": 8, "token": 0, "s4": 4, "u4": 4, "s2": 2, "u2": 2}
_SHAPE = re.compile(r"\b([a-z]+\d*(?:e\d+m\d+\w*)?|pred|token)\[([\d,]*)\](\{[^}]*\})?")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_OPCODE = re.compile(r"([\w\-]+)\(")
_CALLED = re.compile(
    r"(calls|body|condition|to_apply|branch_computations|called_computations"
    r"|true_computation|false_computation)=(\{[^}]*\}|%?[\w.\-]+)"
)
_NAME = re.compile(r"[\w.\-]+")
_TOLD_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CONSTANT = re.compile(r"constant\((\d+)\)")
# Memory spaces of a TPU in layouts, that are no HBM: vector, scalar and so on.
_ON_CHIP = re.compile(r"S\([1-9]\d*\)")


class Instruction(NamedTuple):
    """One instruction.

    Attributes:
      name: unique in the program.
      type: of its result, as `bf16[8,128]{1,0}` or a tuple of such.
      opcode: such as `fusion` or `all-reduce`.
      operands: names of instructions of the same computation.
      called: names of computations by the attribute that names them.
      text: everything after the type.
      is_root: whether it is the result of its computation.
    """

    name: str
    type: str
    opcode: str
    operands: tuple[str, ...]
    called: Mapping[str, tuple[str, ...]]
    text: str
    is_root: bool

    def runs_in(self, into_fusions: bool) -> Iterator[str]:
        """Yields the computations that run once, or once in a trip, with this one."""
        for key, names in self.called.items():
            if key == "to_apply" and self.opcode != "call":
                continue
            if key == "calls" and self.opcode == "fusion" and not into_fusions:
                continue
            yield from names

    @property
    def op_name(self) -> str:
        """The path of modules and jax functions that it comes from."""
        match = re.search(r'op_name="([^"]*)"', self.text)
        return match[1] if match else ""

    @property
    def frame(self) -> int:
        """The number of its stack frame; 0 if there is none."""
        match = re.search(r"stack_frame_id=(\d+)", self.text)
        return int(match[1]) if match else 0


class Program:
    """A compiled program.

    Attributes:
      computations: name -> instructions, in order.
      entry: the name of the computation that runs first.
    """

    def __init__(self, text: str) -> None:
        """Reads a program. text: of `Compiled.as_text()`."""
        lines = text.splitlines()
        self.computations, self.entry = _computations(lines)
        self._frames = _Frames(lines)

    @functools.cached_property
    def runs(self) -> Counter[str]:
        """How often each computation runs in a step, without those inside fusions.

        Those of reductions are left out too. Each branch of a condition counts as
        taken.
        """
        return self._runs(into_fusions=False)

    @functools.cached_property
    def runs_with_fusions(self) -> Counter[str]:
        """As `runs`, with computations inside fusions, where collectives may begin."""
        return self._runs(into_fusions=True)

    def _runs(self, into_fusions: bool) -> Counter[str]:
        runs: Counter[str] = Counter()

        def visit(name: str, times: int) -> None:
            runs[name] += times
            for instruction in self.computations[name]:
                trips = self.trips(instruction) if instruction.opcode == "while" else 1
                for inner in instruction.runs_in(into_fusions):
                    if inner in self.computations:
                        visit(inner, times * trips)

        visit(self.entry, 1)
        return runs

    def trips(self, loop: Instruction) -> int:
        """Returns how often a loop runs: as stated, or as its condition compares."""
        if told := _TOLD_TRIPS.search(loop.text):
            return int(told[1])
        [condition] = loop.called.get("condition", ("",))
        compared = [
            int(match[1])
            for instruction in self.computations.get(condition, ())
            if (match := _CONSTANT.match(instruction.text))
        ]
        return max(compared, default=1)

    def source_line(self, instruction: Instruction, package: str = "clipin_jax") -> str:
        """Returns the innermost line of a package that made it: `models/vit.py:120`."""
        return self._frames.line(instruction.frame, package)


def shapes(type: str) -> Iterator[tuple[str, tuple[int, ...], bool]]:
    """Yields (dtype, shape, whether it is in HBM) of each array of a type."""
    for dtype, sizes, layout in _SHAPE.findall(type):
        shape = tuple(int(size) for size in sizes.split(",") if size)
        yield dtype, shape, not _ON_CHIP.search(layout)


def num_bytes(type: str, *, hbm_only: bool = False) -> int:
    """Returns the bytes of all arrays of a type; those in HBM only if asked."""
    return sum(
        math.prod(shape) * _bits(dtype) // 8
        for dtype, shape, in_hbm in shapes(type)
        if in_hbm or not hbm_only
    )


def _bits(dtype: str) -> int:
    if dtype in _BITS:
        return _BITS[dtype]
    digits = re.search(r"\d+", dtype)
    return int(digits[0]) if digits else 0


def _computations(
    lines: Iterable[str],
) -> tuple[dict[str, list[Instruction]], str]:
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", None
    for line in lines:
        if not line.startswith(" "):
            current = None
            if header := _HEADER.match(line):
                current = computations.setdefault(header[2], [])
                entry = header[2] if header[1] else entry
        elif current is not None and (match := _LINE.match(line)):
            current.append(_instruction(match[2], match[3], bool(match[1])))
    return computations, entry


def _instruction(name: str, text: str, is_root: bool) -> Instruction:
    type, rest = _split_type(text)
    opcode = _OPCODE.match(rest)
    arguments = _balanced(rest[opcode.end() - 1 :]) if opcode else ""
    return Instruction(
        name=name,
        type=type,
        opcode=opcode[1] if opcode else "",
        operands=tuple(re.findall(r"%([\w.\-]+)", arguments)),
        called={
            key: tuple(_NAME.findall(value)) for key, value in _CALLED.findall(rest)
        },
        text=rest,
        is_root=is_root,
    )


def _split_type(text: str) -> tuple[str, str]:
    """Splits `(f32[2], s32[]) while(...)` after the type."""
    if text.startswith("("):
        type = _balanced(text)
        return type, text[len(type) + 1 :]
    type, _, rest = text.partition(" ")
    return type, rest


def _balanced(text: str) -> str:
    """Returns the start of a text up to where its first parenthesis is closed."""
    depth = 0
    for match in re.finditer(r"[()]", text):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return text[: match.end()]
    return text


class _Frames:
    """The tables of files, lines and stack frames at the head of a program."""

    def __init__(self, lines: Iterable[str]) -> None:
        tables: dict[str, dict[int, str]] = {}
        current: dict[int, str] | None = None
        for line in lines:
            if re.fullmatch(r"[A-Z]\w+", line):
                current = tables.setdefault(line, {})
            elif current is not None and (match := re.match(r"(\d+) (.*)", line)):
                current[int(match[1])] = match[2]
            elif line.startswith(("%", "ENTRY")):
                break
        self._files = tables.get("FileNames", {})
        self._places = tables.get("FileLocations", {})
        self._frames = tables.get("StackFrames", {})

    def line(self, frame: int, package: str) -> str:
        seen = set()
        while frame in self._frames and frame not in seen:
            seen.add(frame)
            numbers = _numbers(self._frames[frame])
            place = _numbers(self._places.get(numbers.get("file_location_id", 0), ""))
            file = self._files.get(place.get("file_name_id", 0), "").strip('"')
            _, found, inside = file.rpartition(f"/{package}/")
            if found:
                return f"{inside}:{place.get('line', 0)}"
            frame = numbers.get("parent_frame_id", 0)
        return ""


def _numbers(text: str) -> dict[str, int]:
    return {key: int(number) for key, number in re.findall(r"(\w+)=(\d+)", text)}
