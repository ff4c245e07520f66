"""A study: which runs it has, and that all of them happen, whatever ends it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clipin_jax.commands.main import main
from clipin_jax.config import list_studies
from clipin_jax.core.step import make_train_step
from clipin_jax.errors import ClipinError
from clipin_jax.inference.encode_fns import make_encode_fns
from clipin_jax.runs.build import build_experiment
from clipin_jax.study.grid import Cell, load_study
from clipin_jax.study.markdown import markdown
from clipin_jax.study.results_file import read_results
from clipin_jax.study.runner import run_study

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "studies"
STUDY = """
from clipin_jax.config import parse_arg

def get_study(arg=None):
    options = parse_arg(arg, steps=3)
    scenes = dict(name="scenes", split="val", length=32, size=32)
    retrieval = dict(type="retrieval", every_steps=1, source=scenes)
    return dict(
        title="A test",
        question="Does it run?",
        methods={
            "CLIP": dict(config="clip:runlocal"),
            "CLIP, narrow": dict(
                config="clip:runlocal", changes={"model.embed_dim": 16}, note="half"
            ),
        },
        baseline="CLIP",
        metrics={"retrieval/mean_recall": "mean recall"},
        seeds=[0, 1],
        changes={
            "total_steps": options.steps,
            "batch_size": 16,
            "log.tensorboard": False,
            "checkpoint.every_steps": 1,
            "evals": dict(retrieval=retrieval),
        },
    )
"""
CELLS = [(m, "", s) for s in (0, 1) for m in ("CLIP", "CLIP, narrow")]


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("studies") / "tiny.py"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def finished(file) -> Path:
    """The folder of the study, run without disturbance."""
    folder = file.parent / "finished"
    assert run_study(str(file), folder, jobs=2) == 0
    return folder


def values(folder: Path) -> dict:
    scores = read_results(folder / "results.json")["scores"]
    return {(s["method"], s["level"], s["seed"]): s.get("values") for s in scores}


@pytest.mark.parametrize("name", list_studies())
def test_every_study_that_is_shipped_can_begin(name):
    study = load_study(f"{name}:seeds=2,steps=8")
    assert len(study.configs) == 2 * len(study.facts["methods"]) * len(
        study.facts["levels"]
    )
    longer = ("twice the steps", "all") if name == "strong_recipe" else ()
    for cell, config in study.configs.items():
        assert config.total_steps == (16 if cell.level in longer else 8)
        assert config.seed == cell.seed
        assert set(study.metrics) >= {"retrieval/mean_recall"}


def test_every_host_sees_the_same_pictures():
    """The views of a host's own recipe would move and recolour what captions name."""
    configs = load_study("hosts:seeds=1,steps=8").configs.values()
    augments = [config.data.augment.to_dict() for config in configs]
    for augment in augments:
        del augment["rand_augment_magnitude"]  # of no operations
        assert augment == augments[0] | dict(rand_augment_ops=0)


def test_seeds_come_one_after_the_other_for_all_methods(file):
    assert list(load_study(str(file)).configs) == [Cell(*cell) for cell in CELLS]


def test_every_run_is_scored_and_costed(finished):
    results = read_results(finished / "results.json")
    assert set(values(finished)) == set(CELLS)
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


def test_a_finished_study_has_nothing_left_to_do(file, finished, capsys):
    before = (finished / "results.json").read_bytes()
    assert run_study(str(file), finished) == 0
    assert "4 of them done" in capsys.readouterr().out
    assert (finished / "results.json").read_bytes() == before


def test_another_study_does_not_go_on_in_its_folder(file, finished):
    with pytest.raises(ClipinError, match="another config"):
        run_study(f"{file}:steps=4", finished)


def test_a_killed_worker_costs_one_run_and_a_stopped_study_goes_on(file, finished):
    folder = file.parent / "disturbed"
    start = "import sys; from clipin_jax.commands.main import main; sys.exit(main())"
    command = [sys.executable, "-c", start, "study", str(file)]
    command += ["--workdir", str(folder)]

    def begin() -> subprocess.Popen:
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def wait_for(path: Path, process: subprocess.Popen) -> None:
        deadline = time.monotonic() + 300
        while not path.exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, f"no {path}"
            time.sleep(0.02)

    first, second = (folder / Cell(*cell).folder for cell in CELLS[:2])
    process = begin()
    wait_for(first / "checkpoints", process)
    found = subprocess.check_output(["pgrep", "-P", str(process.pid)], text=True)
    for child in map(int, found.split()):
        if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes():
            os.kill(child, signal.SIGKILL)
    wait_for(second / "metrics.jsonl", process)
    process.terminate()
    _, said = process.communicate(timeout=300)
    assert process.returncode == 75, said
    assert "CLIP, seed 0 failed: its process ended" in said
    assert values(folder)[CELLS[0]] is None
    assert not (first / "DONE").exists()
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert values(folder) == values(finished)


def test_a_run_that_fails_is_said_and_the_others_go_on(file, tmp_path, capsys):
    source = STUDY.replace('"model.embed_dim": 16', '"model.image.num_heads": 5')
    broken = tmp_path / "broken.py"
    broken.write_text(source.replace("[0, 1]", "[0]"))
    assert run_study(str(broken), tmp_path / "runs", costs=False) == 1
    assert "num_heads = 5" in capsys.readouterr().err
    results = read_results(tmp_path / "runs" / "results.json")
    failed = {s["method"]: s.get("failed", "") for s in results["scores"]}
    assert not failed["CLIP"] and "num_heads = 5" in failed["CLIP, narrow"]


@pytest.mark.parametrize(
    "old, new, message",
    [
        ('"CLIP": dict(config="clip:runlocal")', '"CLIP": dict(spec=1)', "config"),
        ('baseline="CLIP"', 'baseline="CLIPP"', "did you mean 'CLIP'"),
        ('title="A test",', "", "title is missing"),
        ("seeds=[0, 1]", "seeds=[]", "seeds is missing"),
        ('question="', 'qestion="', "'qestion' is no key: did you mean 'question'"),
        ('"model.embed_dim"', '"model.embed_dims"', "did you mean 'model.embed_dim'"),
        ('"CLIP"', '"CLIP_narrow"', "would share the folder"),
        ("return dict(", "return (", "line"),
        ("def get_study", "def get_studies", "get_study"),
    ],
)
def test_what_is_wrong_with_a_study_file_is_said_at_once(tmp_path, old, new, message):
    assert old in STUDY
    path = tmp_path / "wrong.py"
    path.write_text(STUDY.replace(old, new))
    with pytest.raises(ClipinError, match=message):
        load_study(str(path))


def test_an_unknown_study_and_no_jobs_are_refused(file):
    with pytest.raises(ClipinError, match="did you mean 'looseness'"):
        load_study("loosenes")
    with pytest.raises(ClipinError, match="--jobs is 0"):
        run_study(str(file), jobs=0)


def test_runs_of_one_method_share_what_is_compiled():
    study = load_study("looseness:seeds=2,steps=8")
    cells = [Cell("CLIPin", "0", 0), Cell("CLIPin", "0.6", 1), Cell("CLIP", "0", 0)]
    runs = [build_experiment(study.configs[cell]) for cell in cells]
    steps = [make_train_step(r.learner, r.optimizer, r.views) for r in runs]
    assert steps[0] is steps[1] and steps[0] is not steps[2]
    encoders = [make_encode_fns(run.learner) for run in runs]
    assert encoders[0] is encoders[1] and encoders[0] is not encoders[2]


def test_the_page_is_made_of_the_results_alone(finished, tmp_path, monkeypatch):
    content = json.loads((finished / "results.json").read_text())
    assert content["settings"]["changes"]["batch_size"] == 16
    assert content["environment"]["jax"]
    monkeypatch.chdir(tmp_path)
    assert main(["study", str(finished / "results.json")]) == 0
    page = (tmp_path / "results.html").read_text()
    assert page == (finished / "study.html").read_text()


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda p: p.stem)
def test_what_the_docs_say_is_what_the_results_say(path):
    """The tables in docs/studies are those that the command writes, to the letter."""
    results = read_results(path)
    assert path.with_suffix(".md").read_text() == markdown(results)
    assert results["name"] == path.stem
