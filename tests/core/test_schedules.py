"""Schedules: the published ones, names from outside, and what is refused."""

import numpy as np
import pytest

from clipin_jax.config import load_config
from clipin_jax.core.schedules import make_hyper, make_schedule
from clipin_jax.errors import ClipinError
from tests.parity.golden_files import load


def test_the_released_schedule(golden_folder):
    arrays = load(golden_folder, "lr_schedules.npz")
    schedule = make_schedule(
        "optim.learning_rate",
        dict(
            schedule="warmup_cosine",
            peak=3e-5,
            warmup_steps=100,
            total_steps=16_200,
            end=0.0,
        ),
    )
    ours = [schedule(int(step)) for step in arrays["clipin/step"]]
    np.testing.assert_allclose(ours, arrays["clipin/lr"], rtol=1e-12, atol=1e-20)
    first = arrays["clipin/lr_first_130"]
    np.testing.assert_allclose(
        [schedule(step) for step in range(len(first))], first, rtol=1e-12
    )


def test_cosine_is_byols_decay():
    schedule = make_schedule(
        "target.decay", dict(schedule="cosine", start=0.96, end=1.0, total_steps=100)
    )
    for step in (0, 13, 50, 100, 150):
        k = min(step, 100)
        expected = 1 - (1 - 0.96) * (np.cos(np.pi * k / 100) + 1) / 2
        assert abs(schedule(step) - expected) < 1e-12


def test_a_schedule_of_another_package(tmp_path, monkeypatch):
    (tmp_path / "their_schedules.py").write_text(
        "def halving(step, *, start, every=10):\n"
        "    return start * 0.5 ** (step // every)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    spec = dict(schedule="their_schedules:halving", start=0.4)
    schedule = make_schedule("optim.learning_rate", spec)
    assert [schedule(step) for step in (0, 9, 10, 20)] == [0.4, 0.4, 0.2, 0.1]
    with pytest.raises(ClipinError, match="optim.learning_rate.evry .*'every'"):
        make_schedule("optim.learning_rate", spec | dict(evry=3))
    with pytest.raises(ClipinError, match="has no value at step 0: ZeroDivisionError"):
        make_schedule("optim.learning_rate", spec | dict(every=0))


@pytest.mark.parametrize(
    "spec, message",
    [
        ("fast", "give a number or a schedule"),
        (True, "give a number or a schedule"),
        (dict(schedule="cosin"), "learning_rate.schedule is 'cosin'.*mean 'cosine'"),
        (dict(schedule="cosine", start=1.0), "optim.learning_rate.end is missing"),
        (
            dict(schedule="linear", start=0.0, end=1.0, total_steps=0),
            "optim.learning_rate.total_steps is 0: it must be at least 1",
        ),
    ],
)
def test_invalid_schedules_are_refused(spec, message):
    with pytest.raises(ClipinError, match=message):
        make_schedule("optim.learning_rate", spec)


def test_defaults_of_the_hyperparameters():
    config = load_config("clip:runlocal").copy_and_resolve_references().unlock()
    del config.optim.weight_decay
    assert make_hyper(config, {})(0)["optim"]["weight_decay"] == 0
    del config.optim.learning_rate
    with pytest.raises(ClipinError, match="optim.learning_rate is missing"):
        make_hyper(config, {})
