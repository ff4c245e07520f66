"""Plans a run: compiles its training step for a machine, and reads the program."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from clipin_jax.errors import ClipinError
from clipin_jax.plan.collectives import Collective, find_collectives
from clipin_jax.plan.machines import Chip, Machine
from clipin_jax.plan.network import Transfer, find_transfers
from clipin_jax.plan.program import Program, num_bytes
from clipin_jax.plan.traffic import Work, find_work
from clipin_jax.runs.build import Experiment, build_experiment
from clipin_jax.runs.train_program import jit_train_step

QUICK = {"exec_time_optimization_effort": -1.0}  # compiles in a fraction of the time
_LARGEST = 5  # buffers that a plan names
_TEMPORARIES = re.compile(r"temporaries \(([\d.]+)([KMGT])\) exceeds")
_EVERYTHING = re.compile(r"Used ([\d.]+)([KMGT]) of")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class Buffer(NamedTuple):
    """An array in the memory of a device.

    Attributes:
      num_bytes: on one device.
      type: such as `bf16[256,197,3072]`.
      line: of ours that made it, as `models/vit.py:120`; "" if it is not known.
    """

    num_bytes: int
    type: str
    line: str


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one device.

    Attributes:
      limit: that a program may use.
      params, optimizer, target, others: of the train state.
      batch: of the input.
      temporaries: activations, gradients and all else; 0 if it is not known.
      total: everything at once.
    """

    limit: float
    params: int
    optimizer: int
    target: int
    others: int
    batch: int
    temporaries: int
    total: float


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a compiled step needs and takes; all figures are of one device.

    Attributes:
      name: of the config.
      machine: as given.
      devices: their number.
      batch_size: pairs in a step, over all devices.
      memory: what it needs.
      buffers: the largest arrays of the program.
      collectives: the largest first.
      transfers: what crosses slices, the largest first.
      traffic: module -> bytes between chip and memory in a step.
      flops: of matrix products in a step.
      seconds: of a step, modelled: each instruction takes as long as its products or
        its bytes need, collectives that nothing hides take theirs, and what crosses
        slices takes its own as if nothing hid it.
      bound: what most of the time is spent on: "compute", "memory", "links" or
        "network".
      compile_seconds: of the compiler.
    """

    name: str
    machine: Machine
    devices: int
    batch_size: int
    memory: Memory
    buffers: Sequence[Buffer]
    collectives: Sequence[Collective]
    transfers: Sequence[Transfer]
    traffic: Mapping[str, float]
    flops: float
    seconds: float
    bound: str
    compile_seconds: float

    @property
    def fits(self) -> bool:
        """Whether the memory of a device is enough."""
        return self.memory.total <= self.memory.limit

    @property
    def images_per_second(self) -> float:
        """Over all devices; 0 if the step does not fit."""
        return self.batch_size / self.seconds if self.seconds else 0.0

    @property
    def peak_share(self) -> float:
        """Share of the chip's arithmetic that the step uses; 0 if it does not fit."""
        if not self.seconds:
            return 0.0
        return self.flops / self.seconds / self.machine.chip.peak_flops


def make_plan(
    config: ConfigDict,
    machine: Machine,
    devices: Sequence[Any],
    *,
    quick: bool = False,
) -> Plan:
    """Compiles the step of a config and returns what it needs and takes.

    Args:
      config: of a run; its data are not read.
      machine: what the devices can do.
      devices: from `devices.open_devices`.
      quick: whether the TPU compiler takes less effort; the program may be slower.

    Raises:
      ClipinError: the config is wrong, or does not fit the devices.
    """
    _check_slices(config, machine)
    experiment = build_experiment(config, devices)
    lowered = _lower(experiment, "tpu" if machine.topology else "cpu")
    options = QUICK if quick and machine.topology else None
    start = time.perf_counter()
    try:
        compiled = lowered.compile(options)
    except jax.errors.JaxRuntimeError as error:
        if not (needed := _needed_bytes(experiment, str(error))):
            raise
        seconds = time.perf_counter() - start
        return _too_large(experiment, machine, needed, seconds)
    return _plan_of(experiment, machine, compiled, time.perf_counter() - start)


def _check_slices(config: ConfigDict, machine: Machine) -> None:
    dcn = config.mesh.get("dcn", 1)  # that of a run from before is 1
    if dcn != machine.slices:
        raise ClipinError(
            f"mesh.dcn = {dcn}, but {machine.name} has {machine.slices} slice(s): set "
            f"mesh.dcn={machine.slices}"
        )


def _lower(experiment: Experiment, platform: str) -> Any:
    step = jit_train_step(experiment)
    inputs = experiment.abstract_batch, experiment.abstract_hyper
    with jax.set_mesh(experiment.mesh):
        traced = step.trace(experiment.abstract_state, *inputs)
        return traced.lower(lowering_platforms=(platform,))


def _needed_bytes(experiment: Experiment, message: str) -> float:
    """Returns what a program needs, as the compiler's error says; 0 if it does not."""
    if match := _EVERYTHING.search(message):
        return float(match[1]) * _UNITS[match[2]]
    if not (match := _TEMPORARIES.search(message)):
        return 0.0
    inputs = (experiment.abstract_state, experiment.abstract_batch)
    return float(match[1]) * _UNITS[match[2]] + _bytes_of(inputs)


def _too_large(
    experiment: Experiment, machine: Machine, needed: float, seconds: float
) -> Plan:
    return Plan(
        name=experiment.config.name,
        machine=machine,
        devices=experiment.mesh.size,
        batch_size=experiment.config.batch_size,
        memory=_memory(experiment, machine.chip, 0, needed),
        buffers=(),
        collectives=(),
        transfers=(),
        traffic={},
        flops=0.0,
        seconds=0.0,
        bound="",
        compile_seconds=seconds,
    )


def _plan_of(
    experiment: Experiment, machine: Machine, compiled: Any, seconds: float
) -> Plan:
    program = Program(compiled.as_text())
    work, collectives = list(find_work(program)), find_collectives(program)
    devices = experiment.mesh.size
    transfers = find_transfers(program, devices, machine.slices)
    temporaries, total = _program_bytes(compiled, machine)
    traffic: dict[str, float] = {}
    for item in work:
        traffic[item.module] = traffic.get(item.module, 0.0) + item.num_bytes
    times = _times(work, collectives, transfers, machine.chip)
    return Plan(
        name=experiment.config.name,
        machine=machine,
        devices=devices,
        batch_size=experiment.config.batch_size,
        memory=_memory(experiment, machine.chip, temporaries, total),
        buffers=_largest_buffers(program),
        collectives=collectives,
        transfers=transfers,
        traffic=dict(sorted(traffic.items(), key=lambda item: -item[1])),
        flops=sum(item.flops for item in work),
        seconds=sum(times.values()),
        bound=max(times, key=lambda name: times[name]),
        compile_seconds=seconds,
    )


def _program_bytes(compiled: Any, machine: Machine) -> tuple[int, int]:
    """Returns the bytes of temporaries, and of all that a program needs."""
    analysis = compiled.memory_analysis()
    arguments = analysis.argument_size_in_bytes
    code = analysis.generated_code_size_in_bytes
    if machine.topology:
        # For TPUs `temp_size_in_bytes` is more than a program gets: 3.97 GiB in a step
        # of CLIP whose addresses end at 2.67 in the compiler's dump. The peak says 2.55
        # and has the arguments too.
        peak = analysis.peak_memory_in_bytes
        return peak - arguments, peak + code
    # For CPUs the peak leaves temporaries out.
    temporaries = analysis.temp_size_in_bytes
    new = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return temporaries, arguments + temporaries + new + code


def _times(
    work: Sequence[Work],
    collectives: Sequence[Collective],
    transfers: Sequence[Transfer],
    chip: Chip,
) -> dict[str, float]:
    """Returns the seconds of a step by what bounds them."""
    times = dict(compute=0.0, memory=0.0, links=0.0, network=0.0)
    for item in work:
        compute = item.flops / chip.peak_flops
        memory = item.num_bytes / chip.memory_bandwidth
        times["compute" if compute > memory else "memory"] += max(compute, memory)
    for one in collectives:
        if not one.is_async:
            times["links"] += one.sent_bytes / chip.link_bandwidth
    for one in transfers:
        times["network"] += one.total_bytes / chip.network_bandwidth
    return times


def _memory(
    experiment: Experiment, chip: Chip, temporaries: int, total: float
) -> Memory:
    state = experiment.abstract_state
    parts = dict(
        params=_bytes_of(state.params),
        optimizer=_bytes_of(state.opt_state),
        target=_bytes_of(state.target_params),
    )
    return Memory(
        limit=chip.memory_bytes,
        others=_bytes_of(state) - sum(parts.values()),
        batch=_bytes_of(experiment.abstract_batch),
        temporaries=temporaries,
        total=total,
        **parts,
    )


def _bytes_of(tree: Any) -> int:
    """Returns the bytes on one device of shapes with shardings."""
    return sum(
        int(np.prod(leaf.sharding.shard_shape(leaf.shape))) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def _largest_buffers(program: Program) -> list[Buffer]:
    found: dict[tuple[str, str], Buffer] = {}
    for name in program.runs:
        for instruction in program.computations[name]:
            if instruction.opcode in ("parameter", "bitcast", "get-tuple-element"):
                continue
            if instruction.type.startswith("("):
                continue
            size = num_bytes(instruction.type, hbm_only=True)
            kind = instruction.type.partition("{")[0]
            line = program.source_line(instruction)
            found.setdefault((kind, line), Buffer(size, kind, line))
    return sorted(found.values(), key=lambda buffer: -buffer.num_bytes)[:_LARGEST]
