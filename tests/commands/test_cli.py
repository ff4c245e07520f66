import json
import math
import os
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest

from clipin_jax import __version__
from clipin_jax.commands import main as cli
from clipin_jax.config import list_configs

CONFIG = '''"""A config for a test."""
from ml_collections import ConfigDict


def get_config(arg):
    return ConfigDict(dict(name="tiny", rate=0.5, data=dict(threads=2)))
'''


@pytest.fixture
def config(tmp_path) -> str:
    path = tmp_path / "tiny.py"
    path.write_text(CONFIG)
    return str(path)


@pytest.fixture
def calls(monkeypatch) -> list[tuple]:
    """The arguments of each call, of functions that replace the library's."""
    made = []

    def train(config: Any, workdir: Path, profile: str, end: float) -> int:
        assert profile == "" and end == math.inf
        made.append((config, workdir))
        return 75

    def evaluate(
        workdir: Path, step: int | None, output: Path | None, overrides: Any = None
    ) -> dict:
        more = (overrides,) if overrides else ()
        made.append((workdir, step, output, *more))
        return {"retrieval/R@1": 0.5}

    def write_report(
        workdirs: list[Path], output: Path, show: str | None = None
    ) -> Path:
        made.append((workdirs, output, *([show] if show else [])))
        return output

    for name, functions in {
        "clipin_jax.training.loop": dict(train=train),
        "clipin_jax.training.evaluate": dict(evaluate=evaluate),
        "clipin_jax.report": dict(write_report=write_report),
    }.items():
        module = types.ModuleType(name)
        vars(module).update(functions)
        monkeypatch.setitem(sys.modules, name, module)
    return made


def test_train_takes_overrides_anywhere_and_returns_the_exit_code(config, calls):
    code = cli.main(
        ["train", config, "rate=1", "--workdir", "there", "--config.data.threads=4"]
        + ["name=other"]
    )
    [(used, workdir)] = calls
    assert code == 75
    assert workdir == "there"
    assert used.to_dict() == dict(name="other", rate=1.0, data=dict(threads=4))
    assert used.is_locked


def test_train_runs_in_a_folder_of_its_name_or_in_the_run_it_is_given(
    config, calls, tmp_path
):
    cli.main(["train", config])
    run = tmp_path / "runs" / "first"
    run.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps(dict(name="tiny", rate=0.1)))
    cli.main(["train", str(run)])
    assert [workdir for _, workdir in calls] == ["runs/tiny", str(run)]


def test_evaluate_and_report(calls, tmp_path, capsys):
    scores = tmp_path / "scores.json"
    assert cli.main(["evaluate", "run", "--step", "5", "--output", str(scores)]) == 0
    assert cli.main(["evaluate", "run"]) == 0
    assert cli.main(["report", "a", "b"]) == 0
    assert capsys.readouterr().out == "report: a/report.html\n"
    assert cli.main(["report", "a", "--show", "loss|R@1"]) == 0
    assert calls == [
        ("run", 5, scores),
        ("run", None, None),
        (["a", "b"], "a/report.html"),
        (["a"], "a/report.html", "loss|R@1"),
    ]


@pytest.mark.parametrize(
    "argv, words",
    [
        (["train", "quickstrat"], ["no config 'quickstrat'", "known: "]),
        (["train", "quickstart", "name="], ["name is ''", "give --workdir"]),
        (["train", "CONFIG", "rte=1"], ["no config key 'rte'", "did you mean 'rate'"]),
        (["train", "CONFIG", "rate=x"], ["rate cannot be 'x'", "float"]),
        (["train", "CONFIG", "rate"], ["cannot read 'rate'", "KEY=VALUE"]),
        (["train", "CONFIG", "--config.rte=1"], ["did you mean 'rate'"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_78(config, calls, capsys, argv, words):
    argv = [config if word == "CONFIG" else word for word in argv]
    assert cli.main(argv) == 78
    captured = capsys.readouterr()
    assert captured.out == "" and calls == []
    assert captured.err.startswith("clipin: error: ")
    assert captured.err.count("\n") == 1
    assert all(word in captured.err for word in words), captured.err


def test_a_config_that_lacks_a_key_is_one_line(config, capsys, tmp_path):
    assert cli.main(["train", config, "--workdir", str(tmp_path / "run")]) == 78
    message = capsys.readouterr().err
    assert message.startswith("clipin: error: the config lacks the key '")
    assert message.count("\n") == 1 and "`clipin config" in message


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["trian"],
        ["train"],
        ["train", "quickstart", "--wrkdir", "x"],
        ["report", "a", "b=1", "--output", "/nowhere/at/all.html"],
        ["evaluate", "run", "more=1"],
        ["evaluate", "run", "--step", "last"],
    ],
)
def test_a_wrong_command_line_ends_with_usage(calls, capsys, argv):
    with pytest.raises(SystemExit) as stopped:
        cli.main(argv)
    assert stopped.value.code == 2
    assert "usage: clipin" in capsys.readouterr().err and calls == []


def test_an_environment_variable_prints_the_traceback_of_a_mistake(
    config, calls, monkeypatch, capsys
):
    monkeypatch.setenv("CLIPIN_JAX_TRACEBACK", "1")
    assert cli.main(["train", config, "rte=1"]) == 78
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback") and lines[-1].startswith("clipin: error: ")


@pytest.mark.parametrize("words", [["-m", "clipin_jax"], ["-c", "COMMAND"]])
def test_the_version_is_printed(words):
    words = [
        "from clipin_jax.commands.main import main; main()" if w == "COMMAND" else w
        for w in words
    ]
    done = subprocess.run(
        [sys.executable, *words, "--version"], capture_output=True, text=True,
        cwd=Path(__file__).parents[2], check=True,
    )  # fmt: skip
    assert done.stdout == f"clipin_jax {__version__}\n"


def test_evaluate_takes_keys_of_evals(calls, capsys):
    assert cli.main(["evaluate", "run", "evals.a.b=1", "--step", "2", "evals={}"]) == 0
    assert calls == [("run", 2, None, ["evals.a.b=1", "evals={}"])]
    assert cli.main(["evaluate", "run", "evals={}", "--suite", "core"]) == 78
    assert "a suite takes no KEY=VALUE" in capsys.readouterr().err


def test_only_what_is_missing_is_listed(capsys):
    with pytest.raises(SystemExit):
        cli.main(["data", "convert", "clip:runlocal"])
    assert "arguments are required: out\n" in capsys.readouterr().err


def test_an_explanation_is_a_png_file(capsys):
    argv = ["explain", "run", "--image", "a.png", "--text", "a", "--output", "a.gif"]
    assert cli.main(argv) == 78
    assert "a.gif: give a file that ends with .png" in capsys.readouterr().err


def test_an_unexpected_error_keeps_its_traceback(config, calls, monkeypatch):
    def fail(*_: Any, **__: Any) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(sys.modules["clipin_jax.training.loop"], "train", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["train", config])


@pytest.mark.parametrize(
    "verb",
    ["train", "evaluate", "caption", "explain", "report", "checkpoint", "study"]
    + ["data", "config", "doctor", "embed", "search"],
)
def test_each_verb_explains_itself(capsys, verb):
    with pytest.raises(SystemExit) as stopped:
        cli.main([verb, "--help"])
    assert stopped.value.code == 0
    assert f"usage: clipin {verb}" in capsys.readouterr().out


def test_help_lists_the_configs_with_their_purpose(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    out = capsys.readouterr().out
    for name, purpose in list_configs().items():
        assert purpose and f"  {name}" in out and purpose in out


def test_help_is_fast():
    code = "from clipin_jax.commands.main import main; main(['train', '--help'])"
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        cwd=Path(__file__).parents[2],
    )
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("argv", [["config", "clip"], ["train", "--help"]])
def test_a_reader_that_has_gone_is_no_traceback(argv):
    code = (
        f"import sys; from clipin_jax.commands.main import main; sys.exit(main({argv}))"
    )
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as output:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=output, stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[2], text=True,
        )  # fmt: skip
    assert done.stderr == ""
    assert done.returncode == (0 if "--help" in argv else 1)


def test_a_broken_pipe_that_is_not_the_output_keeps_its_traceback(config, monkeypatch):
    def fail(*_: Any, **__: Any) -> int:
        raise BrokenPipeError("to a worker")

    monkeypatch.setattr(sys.modules["clipin_jax.training.loop"], "train", fail)
    with pytest.raises(BrokenPipeError):
        cli.main(["train", config])
