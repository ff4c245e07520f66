"""A training step in a benchmark: compiled, run in turns with others, reported."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, cast

import jax
import numpy as np

MIB = 2**20


@dataclasses.dataclass
class TimedStep:
    """One training step on one batch, and how long it took.

    Attributes:
      step: starts one step; asynchronous.
      wait: blocks until all steps are done.
      flops: arithmetic of one step.
      peak_mib: arguments, outputs and temporaries of a step; None where unknown.
      seconds: of a step, one figure a round.
      cpu_seconds: of this process on all cores in a step, one figure a round. Other
        work on the machine changes them less than `seconds`.
    """

    step: Callable[[], None]
    wait: Callable[[], None]
    flops: float
    peak_mib: Callable[[], float | None]
    seconds: list[float] = dataclasses.field(default_factory=list)
    cpu_seconds: list[float] = dataclasses.field(default_factory=list)

    def warm_up(self) -> None:
        """Makes a step that is not counted."""
        self.step()
        self.wait()

    def run(self, steps: int) -> None:
        """Makes some steps in a row and adds their mean time to the figures."""
        start, cpu_start = time.perf_counter(), time.process_time()
        for _ in range(steps):
            self.step()
        self.wait()
        self.seconds.append((time.perf_counter() - start) / steps)
        self.cpu_seconds.append((time.process_time() - cpu_start) / steps)

    def figures(
        self, batch_size: int, peak_tflops: float | None
    ) -> dict[str, float | None]:
        """Returns medians over the rounds; None for what is unknown.

        peak_tflops: of the device, for the share that is used.
        """
        median, memory = statistics.median(self.seconds), self.peak_mib()
        flops = self.flops / median
        return {
            "ms": round(1000 * median, 2),
            "ms_min": round(1000 * min(self.seconds), 2),
            "ms_max": round(1000 * max(self.seconds), 2),
            "cpu_ms": round(1000 * statistics.median(self.cpu_seconds), 2),
            "images_per_second": round(batch_size / median, 2),
            "gflops": round(flops / 1e9, 1),
            "mfu": round(flops / peak_tflops / 1e12, 4) if peak_tflops else None,
            "peak_mib": round(memory, 1) if memory else None,
        }


class _MemoryAnalysis(Protocol):
    """The sizes that XLA reports of a compiled program, in bytes."""

    argument_size_in_bytes: int
    output_size_in_bytes: int
    temp_size_in_bytes: int
    alias_size_in_bytes: int


class Jitted(Protocol):
    """A function from `jax.jit`."""

    def lower(self, *args: Any) -> Any:
        """Returns its program for arguments."""


def take_turns(
    timed_steps: Iterable[TimedStep], *, rounds: int, steps: int
) -> Iterator[int]:
    """Times steps in turns, so that other work on the machine affects all alike.

    Every other round is in reverse order: caches and memory depend on what ran before.

    Args:
      timed_steps: have been warmed up.
      rounds: the number of turns of each.
      steps: made in a row in a turn.

    Yields:
      The number of rounds made so far, after each round.
    """
    turns = list(timed_steps)
    for number in range(rounds):
        for timed in turns:
            timed.run(steps)
        turns.reverse()
        yield number + 1


def compile_timed_step(
    step: Jitted,
    state: Any,
    inputs: tuple[Any, ...],
    flops: float | None = None,
) -> TimedStep:
    """Compiles a jitted `step(state, *inputs) -> (state, out)` that donates its state.

    flops: arithmetic of the step; what the compiler counts if None.
    """
    lowered = step.lower(state, *inputs)
    if flops is None:
        flops = float((lowered.cost_analysis() or {})["flops"])
    compiled = lowered.compile()
    memory = cast(_MemoryAnalysis, compiled.memory_analysis())
    total = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
    )
    peak = (total - memory.alias_size_in_bytes) / MIB
    carry = [state, None]

    def run() -> None:
        carry[:] = compiled(carry[0], *inputs)

    def wait() -> None:
        _, out = jax.block_until_ready(carry)
        if not all(np.isfinite(x).all() for x in jax.tree.leaves(out)):
            raise FloatingPointError("the step's loss or metrics are not finite")

    return TimedStep(run, wait, flops, lambda: peak)


def random_state(shapes: Any) -> Any:
    """Returns a train state of these shapes: random parameters, and zeros.

    Values do not change the time of a step, and a real initialization would take as
    long to compile as the step itself.
    """
    rng = np.random.default_rng(0)

    def leaf(path: tuple[Any, ...], like: Any) -> jax.Array:
        value = np.zeros(like.shape, like.dtype)
        if "params" in path[0].name:
            value = 0.1 * rng.random(like.shape, np.float32) - 0.05
        return jax.device_put(value.astype(like.dtype), like.sharding)

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def median_ratio(seconds: list[float], base: list[float]) -> float:
    """Returns the median over the rounds of the ratio of two times."""
    ratios = [a / b for a, b in zip(seconds, base, strict=True)]
    return round(statistics.median(ratios), 3)
