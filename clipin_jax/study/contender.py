"""A training step that takes part in a benchmark: made, run and reported."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

MIB = 2**20


@dataclasses.dataclass
class Contender:
    """One training step on one batch.

    Attributes:
      step: makes one step; asynchronous.
      wait: blocks until the steps made are done.
      flops: arithmetic of one step.
      peak_mib: arguments, outputs and temporaries of the step; None where unknown.
      seconds: of a step, one figure a round.
      cpu_seconds: that this process took of all cores in that step; on a machine with
        other work it says more than the clock.
    """

    step: Callable[[], None]
    wait: Callable[[], None]
    flops: float
    peak_mib: Callable[[], float | None]
    seconds: list[float] = dataclasses.field(default_factory=list)
    cpu_seconds: list[float] = dataclasses.field(default_factory=list)

    def run(self, steps: int) -> None:
        """Makes some steps in a row and notes their mean."""
        start, cpu_start = time.perf_counter(), time.process_time()
        for _ in range(steps):
            self.step()
        self.wait()
        self.seconds.append((time.perf_counter() - start) / steps)
        self.cpu_seconds.append((time.process_time() - cpu_start) / steps)


def filled(shapes: Any) -> Any:
    """A train state of random parameters and zeros.

    The numbers do not change the time of a step, and a real initialisation would take
    as long to compile as the step itself.
    """
    rng = np.random.default_rng(0)

    def leaf(path: tuple[Any, ...], like: Any) -> jax.Array:
        value = np.zeros(like.shape, like.dtype)
        if "params" in path[0].name:
            value = 0.1 * rng.random(like.shape, np.float32) - 0.05
        return jax.device_put(value.astype(like.dtype), like.sharding)

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def compiled_contender(step: Any, state: Any, inputs: tuple, flops: float) -> Contender:
    """A jitted `step(state, *inputs) -> (state, out)` that gives its state away."""
    compiled = jax.jit(step, donate_argnums=0).lower(state, *inputs).compile()
    memory: Any = compiled.memory_analysis()
    parts = ("argument", "output", "temp")
    total = sum(getattr(memory, f"{part}_size_in_bytes") for part in parts)
    carry = [state, None]

    def run() -> None:
        carry[:] = compiled(carry[0], *inputs)

    def wait() -> None:
        _, out = jax.block_until_ready(carry)
        if not all(np.isfinite(x).all() for x in jax.tree.leaves(out)):
            raise FloatingPointError("the step's loss or metrics are not finite")

    peak = (total - memory.alias_size_in_bytes) / MIB
    return Contender(run, wait, flops, lambda: peak)


def contender_figures(
    c: Contender, batch_size: int, peak_tflops: float | None
) -> dict[str, float | None]:
    """What is reported of a contender; None where it is unknown."""
    median, memory = statistics.median(c.seconds), c.peak_mib()
    return {
        "ms": round(1000 * median, 2),
        "ms_min": round(1000 * min(c.seconds), 2),
        "ms_max": round(1000 * max(c.seconds), 2),
        "cpu_ms": round(1000 * statistics.median(c.cpu_seconds), 2),
        "images_per_second": round(batch_size / median, 2),
        "gflops": round(c.flops / median / 1e9, 1),
        "mfu": round(c.flops / median / peak_tflops / 1e12, 4) if peak_tflops else None,
        "peak_mib": round(memory, 1) if memory else None,
    }


def ratio(seconds: list[float], base: list[float]) -> float:
    """The median of the rounds' ratios."""
    ratios = [a / b for a, b in zip(seconds, base, strict=True)]
    return round(statistics.median(ratios), 3)
