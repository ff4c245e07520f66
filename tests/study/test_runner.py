"""Runs of a study: all of them happen, whatever ends a process or the study."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipin_jax.commands.main import main
from clipin_jax.errors import ClipinError
from clipin_jax.study.results_json import parse_results, read_results
from clipin_jax.study.runner import run_study
from clipin_jax.study.study_file import PlannedRun
from tests.support.tiny_study import EVALUATOR, RUNS, STUDY


@pytest.fixture(scope="module", autouse=True)
def one_device() -> Iterator[None]:
    """Processes of the study have one device: less to compile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", "")
        yield


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Iterator[Path]:
    """The study's file, and a module with its evaluator on PYTHONPATH."""
    folder = tmp_path_factory.mktemp("studies")
    (folder / "outside.py").write_text(EVALUATOR)
    path = folder / "tiny.py"
    path.write_text(STUDY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        patch.syspath_prepend(folder)
        yield path


@pytest.fixture(scope="module")
def finished(file) -> Path:
    """The folder of the study, run without disturbance, two runs at a time."""
    folder = file.parent / "finished"
    assert run_study(str(file), folder, jobs=2) == 0
    return folder


def values(folder: Path) -> dict:
    scores = read_results(folder / "results.json")["scores"]
    return {
        PlannedRun(s["method"], s["level"], s["seed"]): s.get("values") for s in scores
    }


def test_every_run_is_scored_and_costed(finished):
    results = read_results(finished / "results.json")
    assert set(values(finished)) == set(RUNS)
    assert all(
        v["retrieval/mean_recall"] is not None for v in values(finished).values()
    )
    assert results["metrics"]["retrieval/mean_recall"]["chance"] > 0
    assert results["notes"] == {"CLIP, narrow": "half"}
    steps = [s for s, _ in results["scores"][0]["curves"]["retrieval/mean_recall"]]
    assert steps == [1, 2, 3]
    assert results["costs"]["CLIP"]["ratio"] == 1.0
    narrow, plain = (results["costs"][m] for m in ("CLIP, narrow", "CLIP"))
    assert narrow["million_params"] < plain["million_params"]
    assert 0.9 < narrow["flops_ratio"] <= 1
    assert "A test" in (finished / "study.html").read_text()
    assert "mean recall" in (finished / "results.md").read_text()


def test_the_score_format_of_an_external_evaluator_is_used(finished):
    results = parse_results(read_results(finished / "results.json"))
    metric = results.metrics[1]
    assert metric.lower_is_better and not metric.percent
    assert results.numbers(metric, "CLIP", "") == {0: 3.0, 1: 3.0}


def test_a_finished_study_has_nothing_left_to_do(file, finished, capsys):
    before = (finished / "results.json").read_bytes()
    assert run_study(str(file), finished) == 0
    assert "4 of them done" in capsys.readouterr().out
    assert (finished / "results.json").read_bytes() == before


def test_another_study_does_not_resume_in_its_folder(file, finished):
    with pytest.raises(ClipinError, match="another config"):
        run_study(f"{file}:steps=4", finished)


@pytest.mark.slow
def test_a_killed_process_fails_one_run_and_a_stopped_study_resumes(file, finished):
    folder = file.parent / "disturbed"
    start = "import sys; from clipin_jax.commands.main import main; sys.exit(main())"
    command = [sys.executable, "-c", start, "study", str(file)]
    command += ["--workdir", str(folder)]

    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def wait_for(path: Path) -> None:
        deadline = time.monotonic() + 300
        while not path.exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, f"no {path}"
            time.sleep(0.02)

    first, second = (folder / run.folder for run in RUNS[:2])
    wait_for(first / "checkpoints")
    children = subprocess.check_output(["pgrep", "-P", str(process.pid)], text=True)
    for child in map(int, children.split()):
        if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes():
            os.kill(child, signal.SIGKILL)
    wait_for(second / "metrics.jsonl")
    process.terminate()
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 75, errors
    assert "CLIP, seed 0 failed: the process ended" in errors
    assert values(folder)[RUNS[0]] is None
    assert not (first / "DONE").exists()
    assert run_study(str(file), folder, costs=False) == 0
    assert values(folder) == values(finished)


def test_a_run_that_fails_is_reported_and_the_others_run(file, tmp_path, capsys):
    source = STUDY.replace('"model.embed_dim": 16', '"model.image.num_heads": 5')
    broken = tmp_path / "broken.py"
    broken.write_text(source.replace("[0, 1]", "[0]"))
    assert run_study(str(broken), tmp_path / "runs", costs=False) == 1
    assert "num_heads = 5" in capsys.readouterr().err
    results = read_results(tmp_path / "runs" / "results.json")
    failed = {s["method"]: s.get("failed", "") for s in results["scores"]}
    assert not failed["CLIP"] and "num_heads = 5" in failed["CLIP, narrow"]


def test_the_page_needs_the_results_alone(finished, tmp_path, monkeypatch):
    content = json.loads((finished / "results.json").read_text())
    assert content["settings"]["changes"]["batch_size"] == 16
    assert content["environment"]["jax"]
    monkeypatch.chdir(tmp_path)
    assert main(["study", str(finished / "results.json")]) == 0
    page = (tmp_path / "results.html").read_text()
    assert page == (finished / "study.html").read_text()


def test_zero_jobs_are_refused(file):
    with pytest.raises(ClipinError, match="--jobs is 0"):
        run_study(str(file), jobs=0)


def test_a_folder_that_cannot_be_made_is_refused(file, tmp_path):
    (tmp_path / "letter").write_text("")
    with pytest.raises(ClipinError, match="cannot make .*letter: .*workdir"):
        run_study(str(file), tmp_path / "letter")
