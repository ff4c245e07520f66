import io
import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.runs import metrics
from clipin_jax.runs.metrics import MetricWriter, read_metrics
from clipin_jax.training.progress import Progress, Throughput


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_are_valid_json_at_once_and_nan_is_null(tmp_path):
    writer = MetricWriter(tmp_path, tensorboard=False)
    writer.write(1, {"loss": jnp.float32(0.5), "rate": np.float64(1e-4), "n": 3})
    writer.write(2, {"loss": math.nan, "high": math.inf})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(x, parse_constant=lambda name: pytest.fail(name)) for x in lines]
    assert rows == read_metrics(tmp_path)
    assert rows[0].pop("time") >= 0 and rows[1].pop("time") >= 0
    assert rows[0] == {"step": 1, "loss": 0.5, "rate": 1e-4, "n": 3.0}
    assert rows[1] == {"step": 2, "loss": None, "high": None}
    writer.close()
    assert not (tmp_path / "tensorboard").exists()


def test_resuming_forgets_what_came_after_and_a_torn_line(tmp_path):
    writer = MetricWriter(tmp_path, tensorboard=False)
    for step in (10, 20, 30):
        writer.write(step, {"loss": float(step)})
    writer.close()
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 40, "ti')

    again = MetricWriter(tmp_path, tensorboard=False)
    again.truncate_after(20)
    again.write(30, {"loss": 31.0})
    again.close()
    rows = read_metrics(tmp_path)
    assert [(row["step"], row["loss"]) for row in rows] == [
        (10, 10),
        (20, 20),
        (30, 31),
    ]
    times = [row["time"] for row in rows]
    assert times == sorted(times)
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_whole_line_without_its_end_is_torn_too(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "time": 2.5}\n{"step": 2, "time": 3.0}'
    )
    assert read_metrics(tmp_path) == [{"step": 1, "time": 2.5}]


@pytest.mark.parametrize("line", ["{", "[]", '{"step": 1}', "3"])
def test_a_damaged_line_is_named(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(line + '\n{"step": 2, "time": 3.0}\n')
    with pytest.raises(ClipinError, match="metrics.jsonl, line 1 is damaged"):
        read_metrics(tmp_path)


def test_no_file_is_no_rows_and_starts_anew(tmp_path):
    assert read_metrics(tmp_path) == []
    writer = MetricWriter(tmp_path, tensorboard=False)
    writer.truncate_after(0)
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_written_is_named(tmp_path):
    writer = MetricWriter(tmp_path / "gone", tensorboard=False)
    with pytest.raises(ClipinError, match="can not write .*metrics.jsonl: No such"):
        writer.write(1, {"loss": 1.0})


def test_tensorboard_gets_the_same(tmp_path):
    writer = MetricWriter(tmp_path)
    writer.truncate_after(0)
    writer.write(1, {"train/loss": 2.0, "bad": math.nan})
    writer.close()
    [events] = (tmp_path / "tensorboard").iterdir()
    assert b"train/loss" in events.read_bytes()


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics.jax, "process_index", lambda: 1)
    writer = MetricWriter(tmp_path)
    writer.truncate_after(0)
    writer.write(1, {"loss": 1.0})
    writer.close()
    assert list(tmp_path.iterdir()) == []
    stream = io.StringIO()
    progress = Progress(10, stream=stream)
    progress.update(1, {"loss": 1.0})
    progress.say("banner")
    progress.close()
    assert stream.getvalue() == ""


def test_throughput_counts_from_the_last_reading():
    clock = Clock()
    throughput = Throughput(batch_size=8, clock=clock)
    for _ in range(10):
        clock.now += 0.5
        throughput.step(waited=0.1)
    assert throughput.read() == pytest.approx(
        {"images_per_second": 16.0, "data_wait_fraction": 0.2}
    )
    clock.now += 1.0
    throughput.step(waited=5.0)
    assert throughput.read() == pytest.approx(
        {"images_per_second": 8.0, "data_wait_fraction": 1.0}
    )


def test_plain_lines_come_every_few_seconds_and_at_the_end():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(100, 20, every_seconds=10, stream=stream, clock=clock)
    progress.say("banner")
    for step in range(21, 101):
        clock.now += 60 if step == 21 else 1  # the first one compiles
        progress.update(step, {"loss": 2.5} if step % 2 else {})
    progress.close()
    lines = stream.getvalue().splitlines()
    assert lines[:3] == [
        "banner",
        "step 21/100, loss 2.5000, ETA ?",
        "step 31/100, loss 2.5000, ETA 01:09",
    ]
    assert lines[-1] == "step 100/100, loss 2.5000, ETA 00:00"
    assert len(lines) == 10


def test_a_line_has_all_figures():
    stream = io.StringIO()
    progress = Progress(10, stream=stream)
    progress.update(1, {})
    progress.update(
        2, {"loss": 1.0, "images_per_second": 123.4, "data_wait_fraction": 0.034}
    )
    start = "step 2/10, loss 1.0000, 123 images/s, 3% waiting for data, ETA "
    assert stream.getvalue().startswith(start)


def test_a_terminal_gets_a_bar():
    stream = Terminal()
    progress = Progress(10, 5, stream=stream)
    progress.update(6, {"loss": 1.0, "images_per_second": 12.0})
    progress.say("a warning")
    progress.update(10, {"loss": 0.5, "images_per_second": 12.0})
    progress.close()
    shown = stream.getvalue()
    assert "10/10" in shown and "a warning\n" in shown
    assert "loss 0.5000, 12 images/s" in shown
