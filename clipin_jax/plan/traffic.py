"""Models what each instruction of a program computes, reads and writes.

Bytes are those between a chip and its memory. What lies in the memory on the chip does
not count; of an array that is read by slices, or updated in place, only the slices do.
FLOPs are those of matrix products, which a TPU program writes as convolutions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from clipin_jax.plan.modules import module_of
from clipin_jax.plan.program import Instruction, Program, num_bytes, shapes

_FREE = {
    "parameter", "get-tuple-element", "tuple", "bitcast", "constant", "while",
    "conditional", "call", "after-all", "partition-id", "replica-id", "opt-barrier",
    "iota", "add-dependency",
}  # fmt: skip
_SAME = ("bitcast", "reshape", "pad", "copy", "transpose")
_SLICES = ("dynamic-slice", "slice", "gather")


class Work(NamedTuple):
    """What one instruction does in a step, in all its runs.

    Attributes:
      opcode: of the instruction.
      module: whose it is, see `modules.module_of`.
      num_bytes: read and written.
      flops: of matrix products, and those that a kernel states.
    """

    opcode: str
    module: str
    num_bytes: float
    flops: float


def find_work(program: Program) -> Iterator[Work]:
    """Yields the work of all instructions that are not inside fusions."""
    fusions = _Fusions(program)
    for name, runs in program.runs.items():
        types = {i.name: i.type for i in program.computations[name]}
        for instruction in program.computations[name]:
            if instruction.opcode in _FREE or instruction.opcode.endswith("-done"):
                continue
            yield Work(
                opcode=instruction.opcode,
                module=module_of(instruction.op_name),
                num_bytes=runs * fusions.moved_bytes(instruction, types),
                flops=runs * fusions.flops(instruction, types),
            )


class _Fusions:
    """Looks into the computations of fusions, each once."""

    def __init__(self, program: Program) -> None:
        self._computations = program.computations
        self._reads: dict[str, dict[int, int]] = {}
        self._flops: dict[str, float] = {}

    def moved_bytes(self, instruction: Instruction, types: dict[str, str]) -> int:
        opcode, operands = instruction.opcode, instruction.operands
        inputs = [num_bytes(types.get(name, ""), hbm_only=True) for name in operands]
        output = num_bytes(instruction.type, hbm_only=True)
        if "AllocateBuffer" in instruction.text:
            return 0
        if opcode.endswith("-start"):  # its type repeats the operands
            return sum(inputs) + max(output - sum(inputs), 0)
        if opcode == "dynamic-update-slice":
            return 2 * inputs[1]
        if opcode in _SLICES:
            return 2 * output
        if opcode == "fusion":
            [name] = instruction.called["calls"]
            reads = self._parameter_reads(name)
            inputs = [min(n, reads.get(i, n)) for i, n in enumerate(inputs)]
            output = min(output, self._written(name))
        return sum(inputs) + output

    def _parameter_reads(self, name: str) -> dict[int, int]:
        """Returns the bytes that a fusion reads of each of its parameters."""
        if name in self._reads:
            return self._reads[name]
        instructions = self._computations[name]
        types = {i.name: i.type for i in instructions}
        numbers = {
            i.name: int(re.findall(r"\d+", i.text)[0])
            for i in instructions
            if i.opcode == "parameter"
        }
        reads = dict.fromkeys(numbers.values(), 0)
        for instruction in instructions:
            if instruction.opcode in _SAME and instruction.operands[0] in numbers:
                numbers[instruction.name] = numbers[instruction.operands[0]]
                if not instruction.is_root:
                    continue
            for place, operand in enumerate(instruction.operands):
                if operand in numbers:  # slices add up; the caller knows the whole
                    reads[numbers[operand]] += self._read_by(instruction, place, types)
        self._reads[name] = reads
        return reads

    def _read_by(
        self, instruction: Instruction, place: int, types: dict[str, str]
    ) -> int:
        whole = num_bytes(types[instruction.operands[place]])
        if place == 0 and instruction.opcode in _SLICES:
            return num_bytes(instruction.type)
        if place == 0 and instruction.opcode == "dynamic-update-slice":
            return 0
        if instruction.opcode == "fusion":
            [name] = instruction.called["calls"]
            return self._parameter_reads(name).get(place, whole)
        return whole

    def _written(self, name: str) -> int:
        instructions = {i.name: i for i in self._computations[name]}
        roots = [i for i in instructions.values() if i.is_root]

        def written(instruction: Instruction) -> int:
            operands = [instructions[o] for o in instruction.operands]
            if instruction.opcode in ("bitcast", "reshape", "copy") and operands:
                return written(operands[0])
            if instruction.opcode == "tuple":
                return sum(map(written, operands))
            if instruction.opcode == "dynamic-update-slice":
                return num_bytes(operands[1].type)
            if instruction.opcode == "fusion":
                return self._written(instruction.called["calls"][0])
            return num_bytes(instruction.type)

        return sum(map(written, roots))

    def flops(self, instruction: Instruction, types: dict[str, str]) -> float:
        if instruction.opcode == "convolution":
            return _convolution_flops(instruction, types)
        if instruction.opcode == "dot":
            return _dot_flops(instruction, types)
        if instruction.opcode == "custom-call":  # a kernel, which may state its cost
            stated = re.search(r'"flops":"?(\d+)', instruction.text)
            return float(stated[1]) if stated else 0.0
        if instruction.opcode != "fusion":
            return 0.0
        [name] = instruction.called["calls"]
        if name not in self._flops:
            inside = self._computations[name]
            inner = {i.name: i.type for i in inside}
            self._flops[name] = sum(self.flops(i, inner) for i in inside)
        return self._flops[name]


def _shape(type: str) -> tuple[int, ...]:
    return next(shape for _, shape, _ in shapes(type))


def _convolution_flops(instruction: Instruction, types: dict[str, str]) -> float:
    """Returns 2 x outputs x inputs of each output."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->", instruction.text)
    if labels is None:
        return 0.0
    image, kernel = (_shape(types[name]) for name in instruction.operands[:2])
    taps = kernel[labels[2].index("i")]
    window = re.search(r"window=\{([^}]*)\}", instruction.text)
    # Products of batches of matrices are windows with holes, or over padding: one tap
    # is used. In others the window is the contracted axis.
    if window and "dilate" not in window[1]:
        sizes = re.search(r"size=([\dx]+)", window[1])
        for axis, size in enumerate(sizes[1].split("x") if sizes else ()):
            taps *= min(int(size), image[labels[1].index(str(axis))])
    return 2.0 * math.prod(_shape(instruction.type)) * taps


def _dot_flops(instruction: Instruction, types: dict[str, str]) -> float:
    axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.text)
    left = _shape(types[instruction.operands[0]])
    contracted = [left[int(a)] for a in axes[1].split(",") if a] if axes else []
    return 2.0 * math.prod(_shape(instruction.type)) * math.prod(contracted)
