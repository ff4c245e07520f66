"""Where the time of a run goes, by a clock that the test sets."""

import json
from pathlib import Path

import pytest

from clipin_jax.runs.goodput import FILE, Goodput, GoodputSummary, read_goodput


def summary_of(folder: Path) -> GoodputSummary:
    summary = read_goodput(folder)
    assert summary is not None
    return summary


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def take_steps(clock: Clock, goodput: Goodput, steps: range) -> None:
    """A second to start, four to compile, ten a step, of which two lack data."""
    clock.now += 1
    goodput.enter("compile")
    clock.now += 4
    goodput.enter("step")
    for step in steps:
        goodput.step_starts()
        clock.now += 10
        goodput.starved(2)
        goodput.write(step)
    with goodput.spending("evaluate"):
        clock.now += 3


def test_a_run_of_one_start(tmp_path):
    clock = Clock()
    goodput = Goodput(clock)
    goodput.open(tmp_path, 0)
    take_steps(clock, goodput, range(1, 5))
    with goodput.spending("save"):
        clock.now += 2
    text = goodput.close(4)
    summary = summary_of(tmp_path)
    assert summary.starts == 1 and summary.shares["step"] == 32 / 50
    assert summary.seconds == {
        "start": 1, "compile": 4, "step": 32, "data": 8, "evaluate": 3, "save": 2,
        "lost": 0,
    }  # fmt: skip
    assert text == (
        "clipin: goodput 64% of 50 s (wait for data 16%, compile 8%, evaluate 6%, "
        "save 4%, start 2%)"
    )
    assert goodput.longest_step == 10


def test_what_a_restart_loses(tmp_path):
    """The first start is killed after step 8; the last save was that of step 6."""
    clock = Clock()
    first = Goodput(clock)
    first.open(tmp_path, 0)
    take_steps(clock, first, range(1, 9))  # it writes once a minute
    first.write(8, force=True)
    clock.now += 100
    second = Goodput(clock)
    second.open(tmp_path, 6)
    take_steps(clock, second, range(7, 9))
    second.close(8)
    summary = summary_of(tmp_path)
    assert summary.starts == 2
    assert summary.seconds["step"] == 8 * 8
    assert summary.seconds["lost"] == 100 + 2 * 8
    total = sum(summary.seconds.values())
    assert total == pytest.approx(clock.now - Clock.now)
    assert "in 2 starts (lost to restarts" in summary.text()
    steps = [json.loads(x)["step"] for x in (tmp_path / FILE).read_text().splitlines()]
    assert steps == [0, 6, 8, 6, 8]


def test_a_damaged_line_is_left_out(tmp_path):
    assert read_goodput(tmp_path) is None
    goodput = Goodput()
    goodput.open(tmp_path, 0)
    with (tmp_path / FILE).open("a") as file:
        file.write('{"began": 3\n')
    assert summary_of(tmp_path).starts == 1
