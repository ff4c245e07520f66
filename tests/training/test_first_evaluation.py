"""Evaluators with `at_start` also score the model before its first step."""

import os
import signal

import pytest

from clipin_jax.errors import DONE, REQUEUE, ClipinError
from clipin_jax.evaluators.retrieval import Retrieval
from clipin_jax.runs.build import build_experiment
from clipin_jax.training.loop import train
from tests.support import tiny_runs

# With factors whose start must be restored, too.
KEYS = (
    "evals.retrieval.at_start=True",
    "health_every_steps=0",
    "model.lora.image.rank=2",
    "total_steps=4",
)


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with tiny_runs.on_one_device():
        yield


@pytest.fixture(scope="module")
def config():
    return tiny_runs.tiny_run(*KEYS)


@pytest.fixture(scope="module")
def straight(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "straight"
    assert train(config, folder) == DONE
    return folder


def scored_steps(folder):
    rows = tiny_runs.metric_rows(folder)
    return [row["step"] for row in rows if "retrieval/text_to_image_R@1" in row]


def test_scores_before_during_and_after(config, straight):
    assert scored_steps(straight) == [0, 4]
    assert (straight / "checkpoints" / "0" / "scores.json").is_file()
    state, _ = tiny_runs.load_state(config, straight, 0)
    assert int(state.step) == 0
    assert build_experiment(config).num_trained < build_experiment(config).num_params


@pytest.mark.parametrize("error", [None, ClipinError("no light")])
def test_a_run_that_ends_in_the_first_evaluation_repeats_it(
    config, straight, tmp_path, monkeypatch, error
):
    def run(self, state):
        if error:
            raise error
        os.kill(os.getpid(), signal.SIGTERM)
        yield "never", 0.0

    with monkeypatch.context() as patch:
        patch.setattr(Retrieval, "run", run)
        if error:
            with pytest.raises(
                ClipinError, match=r"no light. The model is saved at st"
            ):
                train(config, tmp_path)
        else:
            assert train(config, tmp_path) == REQUEUE
    assert scored_steps(tmp_path) == []
    assert train(config, tmp_path) == DONE
    tiny_runs.assert_same_run(config, straight, tmp_path)


def test_a_run_that_is_resumed_has_one_first_evaluation(config, straight, tmp_path):
    with tiny_runs.signal_at(1, signal.SIGTERM):
        assert train(config, tmp_path) == REQUEUE
    assert scored_steps(tmp_path) == [0]
    assert train(config, tmp_path) == DONE
    tiny_runs.assert_same_run(config, straight, tmp_path)
