import json
import math
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.config import load_config
from clipin_jax.errors import ClipinError
from clipin_jax.runs import metric_writers
from clipin_jax.runs.metric_writers import MetricWriters, check_metric_writers
from clipin_jax.runs.metrics import read_metrics

OFF = {"tensorboard": False}


def test_lines_are_valid_json_at_once_and_nan_is_null(tmp_path):
    writer = MetricWriters(tmp_path, OFF)
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


def test_resuming_drops_later_rows_and_a_partial_line(tmp_path):
    writer = MetricWriters(tmp_path, OFF)
    for step in (10, 20, 30):
        writer.write(step, {"loss": float(step)})
    writer.close()
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 40, "ti')

    again = MetricWriters(tmp_path, OFF)
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


def test_a_line_without_a_newline_is_partial(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "time": 2.5}\n{"step": 2, "time": 3.0}'
    )
    assert read_metrics(tmp_path) == [{"step": 1, "time": 2.5}]


@pytest.mark.parametrize("line", ["{", "[]", '{"step": 1}', "3"])
def test_a_damaged_line_is_named(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(line + '\n{"step": 2, "time": 3.0}\n')
    with pytest.raises(ClipinError, match="metrics.jsonl, line 1 is damaged"):
        read_metrics(tmp_path)


def test_a_missing_file_has_no_rows_and_is_created(tmp_path):
    assert read_metrics(tmp_path) == []
    writer = MetricWriters(tmp_path, OFF)
    writer.truncate_after(0)
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_written_is_named(tmp_path):
    writer = MetricWriters(tmp_path / "gone", OFF)
    with pytest.raises(ClipinError, match="cannot write .*metrics.jsonl: No such"):
        writer.write(1, {"loss": 1.0})


def test_tensorboard_gets_the_same(tmp_path):
    writer = MetricWriters(tmp_path, {"tensorboard": True})
    writer.truncate_after(0)
    writer.write(1, {"train/loss": 2.0, "bad": math.nan})
    writer.close()
    [events] = (tmp_path / "tensorboard").iterdir()
    assert b"train/loss" in events.read_bytes()


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(metric_writers.jax, "process_index", lambda: 1)
    writer = MetricWriters(tmp_path, {"tensorboard": True})
    writer.truncate_after(0)
    writer.write(1, {"loss": 1.0})
    writer.close()
    assert list(tmp_path.iterdir()) == []


class Csv:
    """A writer as another package may have one."""

    def __init__(self, workdir: Path, path: str, header: bool = True):
        self._path = workdir / path
        self._path.write_text("step,name,value\n" if header else "")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        with self._path.open("a") as file:
            file.writelines(f"{step},{k},{v}\n" for k, v in values.items())

    def truncate_after(self, step: int) -> None:
        with self._path.open("a") as file:
            file.write(f"after {step}\n")

    def close(self) -> None:
        with self._path.open("a") as file:
            file.write("closed\n")


class Broken(Csv):
    def write(self, step: int, values: Mapping[str, float]) -> None:
        raise ValueError("no ink\nleft")


HERE = "tests.runs.test_metrics"


def test_a_writer_of_another_package(tmp_path):
    log = {"mine": {"type": f"{HERE}:Csv", "path": "curves.csv"}, "other": False}
    writer = MetricWriters(tmp_path, log)
    writer.truncate_after(2)
    writer.write(3, {"loss": jnp.float32(0.5), "bad": math.inf})
    writer.close()
    assert (tmp_path / "curves.csv").read_text().splitlines() == [
        "step,name,value", "after 2", "3,loss,0.5", "3,bad,inf", "closed"
    ]  # fmt: skip
    assert len(read_metrics(tmp_path)) == 1


@pytest.mark.parametrize(
    "log", [{"tensorboard": {"flush_secs": 1}}, {"mine": {"type": "tensorboard"}}]
)
def test_the_type_is_the_name_of_the_entry_if_none_is_given(tmp_path, log):
    writer = MetricWriters(tmp_path, log)
    writer.write(1, {"loss": 1.0})
    writer.close()
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


@pytest.mark.parametrize(
    "log, message",
    [
        ({"tensorbord": True}, "log.tensorbord is .*: did you mean 'tensorboard'"),
        ({"mine": {"type": "cvs"}}, "log.mine.type is 'cvs': .*known: tensorboard"),
        ({"mine": {"type": "no_such:Csv"}}, "log.mine.type .* no module no_such"),
        ({"tensorboard": 3}, "log.tensorboard is 3: use True, False, or a dict"),
        (
            {"tensorboard": {"flush": 1}},
            "log.tensorboard.flush does not exist: did you",
        ),
        ({"mine": {"type": f"{HERE}:Csv"}}, "log.mine.path is missing"),
    ],
)
def test_wrong_entries(tmp_path, log, message):
    with pytest.raises(ClipinError, match=message):
        check_metric_writers(log)
    with pytest.raises(ClipinError, match=message):
        MetricWriters(tmp_path, log)
    assert list(tmp_path.iterdir()) == []


def test_overrides_add_writers_and_their_arguments():
    changes = ("log.tensorboard={'flush_secs': 3}", "log.tensorboard.flush_secs=4")
    mine = {"type": f"{HERE}:Csv", "path": "x.csv"}
    log = load_config("clip:runlocal", (*changes, f"log.mine={mine}")).log
    assert log.to_dict() == {"tensorboard": {"flush_secs": 4}, "mine": mine}
    check_metric_writers(log.to_dict())
    with pytest.raises(ClipinError, match="did you mean 'log.tensorboard.flush_secs'"):
        load_config("clip:runlocal", (changes[0], "log.tensorboard.flush_sec=4"))


def test_a_writer_that_fails_is_named_in_one_line(tmp_path):
    entry = {"type": f"{HERE}:Broken", "path": "curves.csv"}
    writer = MetricWriters(tmp_path, {"mine": entry})
    with pytest.raises(ClipinError, match="log.mine could not write step 3: ") as error:
        writer.write(3, {"loss": 1.0})
    text = str(error.value)
    assert "ValueError: no ink (" in text and "test_metrics.py, line" in text
    assert "\n" not in text
    with pytest.raises(ClipinError, match="log.mine could not be opened: FileNotFound"):
        MetricWriters(tmp_path, {"mine": entry | {"path": "no/such/folder.csv"}})
