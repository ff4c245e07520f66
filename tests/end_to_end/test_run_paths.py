"""`~` is a home, and a URL is refused in one line, wherever a run folder is named."""

from pathlib import Path

import pytest

from clipin_jax import errors
from clipin_jax.commands.main import main
from clipin_jax.inference.build import open_run
from clipin_jax.report.run_report.page import write_report
from clipin_jax.training.evaluate import evaluate
from clipin_jax.training.loop import train
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
        assert open_run("~/run").folder == home / "run"
        evaluate("~/run", output="~/scores.json")
    assert (home / "scores.json").is_file()
    write_report([Path("~/run")], Path("~/page.html"))
    assert (home / "page.html").is_file()
    assert not Path("~").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["train", tiny_runs.CONFIG, "--workdir", URL],
        ["evaluate", URL],
        ["evaluate", URL, "--suite", "core"],
        ["report", URL],
        ["caption", URL, "image.png"],
        ["study", "looseness", "--workdir", URL],
    ],
    ids=lambda command: command[0],
)
def test_a_url_is_refused_in_one_line(command, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "image.png").write_bytes(b"")
    assert main(command) == errors.FAILED
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1 and "is a URL" in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ["image.png"]


def test_a_url_is_refused_in_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.ClipinError, match="is a URL"):
        train(tiny_runs.tiny_run(), URL)
    assert not list(tmp_path.iterdir())
