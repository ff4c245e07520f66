"""The results in docs/studies are those of the study files, and come out again."""

import json
from pathlib import Path
from typing import Any

import pytest

import clipin_jax
from clipin_jax.config import resolve
from clipin_jax.report.run_history import read_histories
from clipin_jax.study.results_json import read_results
from clipin_jax.study.study_file import PlannedRun, Study, load_study
from clipin_jax.sweep.processes.run_scores import run_scores

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "studies"
# The study that made each file of results. Those of the released setting were made by
# study files that are no more.
MADE_BY = {"looseness": "looseness", "ablation": "ablation"}
# Training amplifies differences in rounding, so that another CPU may rank a few of the
# 512 pairs otherwise.
CLOSE = 0.01


def saved_study(name: str) -> tuple[dict[str, Any], Study]:
    return read_results(RESULTS / f"{name}.json"), load_study(MADE_BY[name])


@pytest.mark.parametrize("name", MADE_BY)
def test_a_study_file_has_the_settings_of_its_saved_results(name):
    results, study = saved_study(name)
    settings = json.loads(json.dumps(study.settings, default=resolve))
    assert results["settings"] == settings
    for key, value in study.facts.items():
        assert results[key] == value, key


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE_BY)
def test_a_run_of_a_saved_study_has_its_scores_again(name, tmp_path):
    """The first run of the baseline, half a minute each."""
    results, study = saved_study(name)
    baseline = results.get("baseline") or results["pairs"][0][1]
    saved = next(s for s in results["scores"] if s["method"] == baseline)
    planned = PlannedRun(baseline, saved["level"], saved["seed"])
    clipin_jax.train(study.configs[planned], tmp_path)
    (history,) = read_histories([tmp_path])
    values = run_scores(history, study.metrics).values
    assert values == pytest.approx(saved["values"], abs=CLOSE)
