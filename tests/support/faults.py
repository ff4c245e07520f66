"""Faults at the boundaries of saving and evaluating a tiny run."""

import contextlib
import errno
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from clipin_jax.commands.main import main
from tests.support import tiny_runs

# "module:attribute" of what a run calls while it logs, saves, evaluates and ends.
BOUNDARIES = (
    "clipin_jax.runs.checkpoint:Checkpoints.save",
    "clipin_jax.runs.checkpoint:Checkpoints.add_scores",
    "clipin_jax.runs.checkpoint_checksums:write_checksums",
    "clipin_jax.runs.checkpoint_checksums:write_scores",
    "clipin_jax.runs.loggers.run_loggers:RunLoggers.log",
    "clipin_jax.evaluators.retrieval:Retrieval.run",
    "clipin_jax.training.loop:evaluate_state",
    "clipin_jax.training.loop:write_figures",
    "clipin_jax.training.loop:write_results",
    "clipin_jax.training.loop:save_examples",
    "clipin_jax.training.loop:write_file",
)
KINDS = ("SIGTERM", "SIGKILL", "full", "error")


class Fault(NamedTuple):
    """One fault.

    Attributes:
      boundary: of `BOUNDARIES`.
      call: which call of it, from 1; a run with fewer calls has no fault.
      after: whether the fault comes after the call instead of before it.
      kind: of `KINDS`.
    """

    boundary: str
    call: int
    after: bool
    kind: str


def draw_fault(seed: int, kinds: tuple[str, ...] = KINDS) -> Fault:
    """Draws a fault."""
    rng = np.random.default_rng(seed)
    return Fault(
        boundary=BOUNDARIES[rng.integers(len(BOUNDARIES))],
        call=int(rng.integers(1, 4)),
        after=bool(rng.integers(2)),
        kind=kinds[rng.integers(len(kinds))],
    )


@contextlib.contextmanager
def injected(fault: Fault) -> Iterator[list[Fault]]:
    """Lets the fault happen inside; the list has it when it has happened."""
    module_name, _, attribute = fault.boundary.partition(":")
    owner: Any = importlib.import_module(module_name)
    *path, name = attribute.split(".")
    for part in path:
        owner = getattr(owner, part)
    original: Callable[..., Any] = getattr(owner, name)
    calls, happened = 0, []

    def faulty(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        is_due = calls == fault.call
        if is_due and not fault.after:
            happen()
        result = original(*args, **kwargs)
        if is_due and fault.after:
            happen()
        return result

    def happen() -> None:
        happened.append(fault)
        if fault.kind == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        if fault.kind == "error":
            raise RuntimeError("a fault")
        os.kill(os.getpid(), signal.Signals[fault.kind])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, faulty)
        yield happened


def run_command_with_fault() -> int:
    """Runs `clipin` with the arguments after the first one, the seed of a fault."""
    seed, *argv = sys.argv[1:]
    fault = draw_fault(int(seed), ("SIGKILL",))
    with tiny_runs.on_one_device(), injected(fault):
        return main(argv)
