"""`~` is a home; a store whose library is missing is one line, for every command."""

import sys
from pathlib import Path

import pytest

from clipin_jax import errors
from clipin_jax.commands.main import main
from clipin_jax.inference.build import open_run
from clipin_jax.report.run_report.page import write_report
from clipin_jax.training.evaluate import evaluate
from tests.support import tiny_runs

URL = "gs://bucket/run"


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home with a run, `~/run`; not the working directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path.parent)
    tiny_runs.write_run(tiny_runs.tiny_run(), tmp_path / "run")
    return tmp_path


def test_a_tilde_is_the_home_in_python(home):
    with tiny_runs.on_one_device():
        assert open_run("~/run").copy.folder == home / "run"
        evaluate("~/run", output="~/scores.json")
    assert (home / "scores.json").is_file()
    write_report([Path("~/run")], Path("~/page.html"))
    assert (home / "page.html").is_file()
    assert not Path("~").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["train", tiny_runs.CONFIG, "--workdir", URL],
        ["train", URL],
        ["evaluate", URL],
        ["evaluate", URL, "--suite", "core"],
        ["report", URL],
        ["caption", URL, "image.png"],
    ],
    ids=lambda command: command[0],
)
def test_a_store_without_its_library_is_one_line(command, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # as if it were not installed
    (tmp_path / "image.png").write_bytes(b"")
    assert main(command) == errors.WRONG_INPUT
    [line] = capfd.readouterr().err.splitlines()
    assert URL in line and "pip install 'clipin_jax[remote]'" in line
    assert [path.name for path in tmp_path.iterdir()] == ["image.png"]


def test_a_study_needs_a_folder_of_this_machine(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["study", "looseness", "--workdir", URL]) == errors.WRONG_INPUT
    [line] = capfd.readouterr().err.splitlines()
    assert f"{URL} is a URL: name a folder of this machine" in line
    assert not list(tmp_path.iterdir())
