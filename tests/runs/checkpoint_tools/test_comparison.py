import numpy as np
import pytest

from clipin_jax.runs.checkpoint_tools.comparison import (
    compare_checkpoints,
    relative_distance,
)
from clipin_jax.runs.checkpoint_tools.saved_checkpoint import (
    ArrayInfo,
    open_checkpoint,
)
from tests.support.saved_runs import save_run, small_state
from tests.support.tiny import tiny_config


def test_a_checkpoint_equals_itself(first):
    a = open_checkpoint(first)
    comparison = compare_checkpoints(a, open_checkpoint(f"{first}@4"))
    assert comparison.is_equal and comparison.num_equal == len(a.arrays)


def test_names_forms_values_and_configs_differ(first, tmp_path):
    state = small_state(4, bias=np.zeros(2, np.float32))
    state["params/kernel"] = state["params/kernel"] * 1.5
    state["collections/batch_stats/mean"] = np.zeros(4, np.float32)
    state["target_params/kernel"] = np.zeros((6, 5), np.float32)
    del state["opt_state/mu/kernel"]
    folder = save_run(tmp_path / "other", tiny_config("seed=3"), {4: state})
    comparison = compare_checkpoints(
        open_checkpoint(first), open_checkpoint(str(folder))
    )
    assert not comparison.is_equal
    assert comparison.only_a == ["opt_state/mu/kernel"]
    assert comparison.only_b == ["params/bias"]
    assert comparison.forms == {
        "target_params/kernel": (
            ArrayInfo("float32", (6, 4)),
            ArrayInfo("float32", (6, 5)),
        )
    }
    assert list(comparison.distances.items()) == [
        ("collections/batch_stats/mean", 1.0),
        ("params/kernel", pytest.approx(1 / 3)),
    ]
    assert comparison.config == {"seed": (0, 3)}
    assert comparison.num_equal == 1


def test_values_that_are_not_finite_come_first(first, tmp_path):
    bad = np.full((6, 4), np.nan, np.float32)
    states = {1: small_state(4, kernel=bad), 2: small_state(4, kernel=bad.copy())}
    folder = save_run(tmp_path / "bad", tiny_config(), states)
    a, b = open_checkpoint(f"{folder}@1"), open_checkpoint(f"{folder}@2")
    assert compare_checkpoints(a, b).is_equal
    distances = compare_checkpoints(open_checkpoint(f"{first}@2"), a).distances
    assert next(iter(distances)) == "params/kernel"
    assert np.isnan(distances["params/kernel"])


def test_the_distance_is_relative_and_symmetric():
    a, b = np.array([3.0, 4.0]), np.array([3.0, 3.0])
    assert relative_distance(a, b) == relative_distance(b, a) == pytest.approx(0.2)
    assert relative_distance(a, -a) == pytest.approx(2)
    assert relative_distance(a * 0, a) == 1 and relative_distance(a * 0, -a * 0) == 0
    assert relative_distance(np.int32(4), np.int32(2)) == pytest.approx(0.5)
