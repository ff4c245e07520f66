import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.config import load_config
from clipin_jax.errors import ClipinError
from clipin_jax.runs.loggers import run_loggers
from clipin_jax.runs.loggers.base import RunFacts
from clipin_jax.runs.loggers.json_lines import read_metrics
from clipin_jax.runs.loggers.run_loggers import RunLoggers
from clipin_jax.runs.loggers.table import make_loggers

OFF = {"tensorboard": False}


def opened(folder: Path, log: Mapping[str, Any], step: int = 0, **arguments: Any):
    """Returns the loggers of a run that goes on from a step."""
    loggers = RunLoggers(log, **arguments)
    loggers.init(RunFacts(folder, "run", {"optim": {"rate": 0.1}}, step))
    return loggers


def test_lines_are_valid_json_at_once_and_nan_is_null(tmp_path):
    writer = opened(tmp_path, OFF)
    writer.log(1, {"loss": jnp.float32(0.5), "rate": np.float64(1e-4), "n": 3})
    writer.log(2, {"loss": math.nan, "high": math.inf})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(x, parse_constant=lambda name: pytest.fail(name)) for x in lines]
    assert rows == read_metrics(tmp_path)
    assert rows[0].pop("time") >= 0 and rows[1].pop("time") >= 0
    assert rows[0] == {"step": 1, "loss": 0.5, "rate": 1e-4, "n": 3.0}
    assert rows[1] == {"step": 2, "loss": None, "high": None}
    writer.close()
    assert not (tmp_path / "tensorboard").exists()


def test_resuming_drops_later_rows_and_a_partial_line(tmp_path):
    writer = opened(tmp_path, OFF)
    for step in (10, 20, 30):
        writer.log(step, {"loss": float(step)})
    writer.close()
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 40, "ti')

    again = opened(tmp_path, OFF, step=20)
    again.log(30, {"loss": 31.0})
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
    writer = opened(tmp_path, OFF)
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_written_is_named(tmp_path):
    writer = opened(tmp_path / "gone", OFF)
    with pytest.raises(ClipinError, match="cannot write .*metrics.jsonl: No such"):
        writer.log(1, {"loss": 1.0})


def test_tensorboard_gets_the_same(tmp_path):
    writer = opened(tmp_path, {"tensorboard": True})
    writer.log(1, {"train/loss": 2.0, "bad": math.nan})
    writer.close()
    [events] = (tmp_path / "tensorboard").iterdir()
    assert b"train/loss" in events.read_bytes()


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(run_loggers.jax, "process_index", lambda: 1)
    writer = opened(tmp_path, {"tensorboard": True})
    writer.log(1, {"loss": 1.0})
    writer.close()
    assert list(tmp_path.iterdir()) == []


class Csv:
    """A logger as another package may have one."""

    def __init__(self, path: str, header: bool = True):
        self._name, self._header = path, header

    def init(self, run: RunFacts, run_id: str) -> str:
        self._path = run.workdir / self._name
        title = "step,name,value\n" if self._header else ""
        self._path.write_text(f"{title}after {run.step}, {run_id or 'new'}\n")
        return "id 1"

    def log(self, step: int, values: Mapping[str, float]) -> None:
        with self._path.open("a") as file:
            file.writelines(f"{step},{k},{v}\n" for k, v in values.items())

    def finish(self) -> None:
        with self._path.open("a") as file:
            file.write("closed\n")


class Broken(Csv):
    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step in (3, 4):
            raise ConnectionError("no ink\nleft")
        super().log(step, values)

    def finish(self) -> None:
        raise TimeoutError


HERE = "tests.runs.loggers.test_loggers"


def test_a_writer_of_another_package(tmp_path):
    log = {"mine": {"type": f"{HERE}:Csv", "path": "curves.csv"}, "other": False}
    writer = opened(tmp_path, log, step=2)
    writer.log(3, {"loss": jnp.float32(0.5), "bad": math.inf})
    writer.close()
    assert (tmp_path / "curves.csv").read_text().splitlines() == [
        "step,name,value", "after 2, new", "3,loss,0.5", "3,bad,inf", "closed"
    ]  # fmt: skip
    assert len(read_metrics(tmp_path)) == 1
    opened(tmp_path, log, step=3)  # goes on with the log of the earlier start
    assert "after 3, id 1" in (tmp_path / "curves.csv").read_text()


@pytest.mark.parametrize(
    "log", [{"tensorboard": {"flush_secs": 1}}, {"mine": {"type": "tensorboard"}}]
)
def test_the_type_is_the_name_of_the_entry_if_none_is_given(tmp_path, log):
    writer = opened(tmp_path, log)
    writer.log(1, {"loss": 1.0})
    writer.close()
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


@pytest.mark.parametrize(
    "log, message",
    [
        ({"tensorbord": True}, "log.tensorbord is .*: did you mean 'tensorboard'"),
        ({"mine": {"type": "cvs"}}, "log.mine.type is 'cvs': .*known: comet"),
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
        make_loggers(log)
    with pytest.raises(ClipinError, match=message):
        opened(tmp_path, log)
    assert list(tmp_path.iterdir()) == []


def test_overrides_add_writers_and_their_arguments():
    changes = ("log.tensorboard={'flush_secs': 3}", "log.tensorboard.flush_secs=4")
    mine = {"type": f"{HERE}:Csv", "path": "x.csv"}
    log = load_config("clip:runlocal", (*changes, f"log.mine={mine}")).log
    assert log.to_dict() == {"tensorboard": {"flush_secs": 4}, "mine": mine}
    make_loggers(log.to_dict())
    with pytest.raises(ClipinError, match="did you mean 'log.tensorboard.flush_secs'"):
        load_config("clip:runlocal", (changes[0], "log.tensorboard.flush_sec=4"))


def test_a_logger_that_fails_costs_one_warning(tmp_path, caplog):
    """It rests for a minute; the run and the other loggers go on."""
    now = [0.0]
    entry = {"type": f"{HERE}:Broken", "path": "curves.csv"}
    log = {"mine": entry, "other": {"type": f"{HERE}:Csv", "path": "other.csv"}}
    writer = opened(tmp_path, log, clock=lambda: now[0])
    for step in range(2, 8):
        now[0] = 30.0 * step
        writer.log(step, {"loss": 1.0})
    writer.close()
    [record] = caplog.records
    text = record.getMessage()
    assert "log.mine could not log step 3: ConnectionError: no ink (" in text
    assert "the run goes on" in text and "\n" not in text
    lines = (tmp_path / "curves.csv").read_text().splitlines()[2:]
    assert [line[0] for line in lines] == ["2", "5", "6", "7"]
    assert len((tmp_path / "other.csv").read_text().splitlines()) == 2 + 6 + 1
    assert len(read_metrics(tmp_path)) == 6


def test_a_logger_that_cannot_be_opened(tmp_path, caplog):
    """At the first start it is an error; later the service may be away."""
    entry = {"type": f"{HERE}:Csv", "path": "no/such/folder.csv"}
    with pytest.raises(ClipinError, match="log.mine could not be opened: FileNotFound"):
        opened(tmp_path, {"mine": entry})
    (tmp_path / "loggers.json").write_text('{"mine": "id 1"}')
    writer = opened(tmp_path, {"mine": entry})
    writer.log(1, {"loss": 1.0})
    writer.close()
    [record] = caplog.records
    assert "log.mine could not be opened: FileNotFound" in record.getMessage()
    assert json.loads((tmp_path / "loggers.json").read_text()) == {"mine": "id 1"}


@pytest.mark.parametrize("name", ["comet", "mlflow", "trackio", "wandb"])
def test_a_missing_package_is_one_line_with_its_extra(monkeypatch, name):
    for module in ("comet_ml", "mlflow", "trackio", "wandb"):
        monkeypatch.setitem(sys.modules, module, None)
    message = rf"log.mine|pip install 'clipin_jax\[{name}\]'"
    with pytest.raises(ClipinError, match=message):
        make_loggers({"mine": {"type": name, "project": "birds", "group": "sweep"}})
