"""Counts what devices send each other in a step, by kind and by module."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from clipin_jax.plan.modules import module_of
from clipin_jax.plan.program import Instruction, Program, num_bytes

KINDS = (
    "all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute",
    "ragged-all-to-all", "collective-broadcast",
)  # fmt: skip


class Collective(NamedTuple):
    """One collective of the program.

    Attributes:
      kind: one of `KINDS`.
      runs: how often in a step.
      num_bytes: of its result on one device, in one run; that of an all-gather is the
        gathered array.
      is_async: whether other work may run in the meantime.
      module: whose it is.
      line: of ours that made it, as `models/vit.py:120`; "" if it is not known.
    """

    kind: str
    runs: int
    num_bytes: int
    is_async: bool
    module: str
    line: str

    @property
    def total_bytes(self) -> int:
        """In a step."""
        return self.runs * self.num_bytes

    @property
    def sent_bytes(self) -> float:
        """About what a device sends in a step, as in a ring of many devices."""
        # An all-reduce is a reduce-scatter, then an all-gather.
        return self.total_bytes * (2 if self.kind == "all-reduce" else 1)


def find_collectives(program: Program) -> list[Collective]:
    """Returns the collectives of a program, the largest first.

    One that the compiler spreads over several fusions has one channel, and counts once.
    """
    found: dict[str, Collective] = {}
    for name, runs in program.runs_with_fusions.items():
        is_fused = name not in program.runs
        for instruction in program.computations[name]:
            kind = instruction.opcode.removesuffix("-start")
            if kind not in KINDS:
                continue
            key = _channel(instruction) if is_fused else instruction.name
            if key not in found or runs < found[key].runs:
                found[key] = Collective(
                    kind=kind,
                    runs=runs,
                    num_bytes=_result_bytes(instruction),
                    is_async=is_fused or instruction.opcode != kind,
                    module=module_of(instruction.op_name),
                    line=program.source_line(instruction),
                )
    return sorted(found.values(), key=lambda c: c.total_bytes, reverse=True)


class Exchange(Protocol):
    """What devices send each other: a collective, or a part of one."""

    @property
    def kind(self) -> str:
        """The kind of the collective."""
        ...

    @property
    def runs(self) -> int:
        """How often in a step."""
        ...

    @property
    def total_bytes(self) -> float:
        """In a step."""
        ...


def by_kind(exchanges: Iterable[Exchange]) -> dict[str, dict[str, float]]:
    """Returns for each kind `count`, `runs` and `bytes` in a step."""
    totals: dict[str, dict[str, float]] = {}
    for one in exchanges:
        total = totals.setdefault(one.kind, dict(count=0, runs=0, bytes=0))
        total["count"] += 1
        total["runs"] += one.runs
        total["bytes"] += one.total_bytes
    return totals


def by_module(collectives: Iterable[Collective]) -> dict[str, int]:
    """Returns the bytes in a step of each module, the largest first."""
    totals: dict[str, int] = {}
    for one in collectives:
        totals[one.module] = totals.get(one.module, 0) + one.total_bytes
    return dict(sorted(totals.items(), key=lambda item: -item[1]))


def _channel(instruction: Instruction) -> str:
    match = re.search(r"channel_id=\d+", instruction.text)
    return match[0] if match else instruction.name


def _result_bytes(instruction: Instruction) -> int:
    total = num_bytes(instruction.type)
    if not instruction.opcode.endswith("-start") or instruction.type[0] != "(":
        return total
    # The start of an asynchronous one returns its operands, then its results.
    if instruction.opcode == "all-reduce-start":
        return total
    parts = re.findall(r"\w+\[[\d,]*\]", instruction.type)
    return max((num_bytes(part) for part in parts), default=0)
