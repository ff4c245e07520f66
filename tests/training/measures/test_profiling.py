import importlib.metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.training.measures import profiling
from clipin_jax.training.measures.profiling import NOTHING, Profiler, parse_steps

STATE = jnp.zeros(())


class Log:
    """Keeps the lines, and counts how often the time was measured anew."""

    def __init__(self):
        self.lines: list[str] = []
        self.restarts = 0

    def print_line(self, text: str) -> None:
        self.lines.append(text)

    def restart_timing(self) -> None:
        self.restarts += 1


@pytest.fixture
def traces(monkeypatch) -> list[Any]:
    """Stands for jax's profiler: the folders of traces, and None where one ends."""
    calls: list[Any] = []

    def start(folder: Path, profiler_options: Any) -> None:
        calls.append((folder.name, profiler_options.session_id))

    monkeypatch.setattr(jax.profiler, "start_trace", start)
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append(None))
    return calls


def profiled(text: str, traces: list[Any], *, begin: int = 0, end: int) -> Any:
    """Returns the steps in which a trace was made, and the log of such a run."""
    log, steps = Log(), []
    profiler = Profiler(parse_steps(text, 100), Path("x"), "runs/x", log, step=begin)
    for step in range(begin + 1, end + 1):
        profiler.before(step, STATE)
        if traces and traces[-1]:
            steps.append(step)
        profiler.after(step, STATE)
    profiler.close()
    profiler.close()
    assert not traces or traces[-1] is None
    return steps, log


@pytest.mark.parametrize(
    "text, begin, steps",
    [
        ("4:6", 0, [4, 5, 6]),
        ("1:1", 0, [1]),
        ("3", 0, [3, 4, 5]),  # after the two that warm up
        ("3", 10, [13, 14, 15]),
        ("4:6", 4, [5, 6]),  # a resumed run
        ("4:6", 3, [4, 5, 6]),
    ],
)
def test_the_steps_that_were_asked_for(traces, text, begin, steps):
    made, log = profiled(text, traces, begin=begin, end=20)
    assert made == steps
    [line] = log.lines
    assert line == (
        f"clipin: --profile {text}: steps {steps[0]} to {steps[-1]} are in "
        "runs/x/profile; look with: xprof --logdir runs/x/profile"
    )
    assert traces[0] == ("profile", f"steps_{steps[0]}_{steps[-1]}")
    assert log.restarts == 2  # neither start nor end count as time of steps


def test_a_trace_that_is_cut_short_is_written(traces):
    made, log = profiled("4:60", traces, end=5)
    assert made == [4, 5] and traces == [("profile", "steps_4_60"), None]
    assert "steps 4 to 5 are in" in log.lines[0]


@pytest.mark.parametrize(
    "text, begin, end, message",
    [
        ("4:6", 6, 20, "not profiled, as this start begins after step 6"),
        ("40:60", 0, 20, "as this start ended with step 20, before step 40"),
        ("5", 19, 20, "as this start ended with step 20, before step 22"),
    ],
)
def test_steps_that_never_come_are_one_line(traces, text, begin, end, message):
    made, log = profiled(text, traces, begin=begin, end=end)
    assert not made and not traces
    [line] = log.lines
    assert message in line and line.startswith(f"clipin: --profile {text}: ")


def test_nothing_is_profiled_unasked(traces):
    made, log = profiled("", traces, end=20)
    assert not made and not log.lines and parse_steps("", 10) == NOTHING


@pytest.mark.parametrize(
    "text", ["0", "a", "9:3", "0:3", "-1", "3:", ":3", "1:2:3", "1.5", "9" * 30]
)
def test_a_wrong_text_is_one_line(text):
    with pytest.raises(ClipinError, match="--profile is .*such as 10:15") as error:
        parse_steps(text, 100)
    assert "\n" not in str(error.value)


def test_steps_after_the_end_of_the_run_are_refused():
    with pytest.raises(ClipinError, match="101:102, but the run ends with step 100"):
        parse_steps("101:102", 100)


@pytest.mark.parametrize(
    "platforms, installed, refused",
    [
        ("cpu", "0.0.52", False),
        ("", "0.0.42.1", False),
        ("", "0.0.52", True),
        ("", "0.0.4", True),
    ],
)
def test_a_compiler_of_tpus_that_would_end_the_process_is_refused(
    monkeypatch, platforms, installed, refused
):
    monkeypatch.setattr(profiling, "_needed_libtpu", lambda: "0.0.42")
    monkeypatch.setattr(profiling, "_platforms", lambda: platforms)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: installed)
    if not refused:
        parse_steps("5", 100)
        return
    with pytest.raises(ClipinError, match="JAX_PLATFORMS=cpu") as error:
        parse_steps("5", 100)
    assert f"needs libtpu 0.0.42 and finds {installed}" in str(error.value)


def test_the_version_that_jax_needs_is_read_from_its_requirements():
    assert all(part.isdigit() for part in profiling._needed_libtpu().split("."))
