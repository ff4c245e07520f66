"""Saving and restoring: bits, shardings, which checkpoints are kept."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.runs.checkpoint import Checkpoints
from clipin_jax.runs.checkpoint_retention import Retention
from tests.support.saved_states import (
    assert_equal,
    latest,
    make_state,
    save_steps,
    shapes_of,
    step_folders,
)


def test_restores_bits_shardings_and_the_data_position(tmp_path, abstract):
    folder = tmp_path / "checkpoints"
    checkpoints = Checkpoints(folder, every_steps=10, keep_last=2)
    assert checkpoints.restore_latest(abstract) is None
    assert checkpoints.latest_step() is None
    assert not checkpoints.save(9, make_state(9), {})
    assert checkpoints.save(10, make_state(10), {"position": 80, "seed": None})
    assert checkpoints.save(13, make_state(13), {"position": 104}, force=True)
    assert not checkpoints.save(13, make_state(13), {"position": 104}, force=True)
    checkpoints.close()

    again = Checkpoints(folder)
    state, data_state, step = latest(again, abstract)
    assert (step, data_state) == (13, {"position": 104})
    assert_equal(state, make_state(13))
    state, data_state = again.restore(10, abstract)
    assert data_state == {"position": 80, "seed": None}
    assert_equal(state, make_state(10))
    with pytest.raises(ClipinError, match="no checkpoint of step 11.*10, 13"):
        again.restore(11, abstract)
    again.close()


def test_arrays_may_be_donated_while_they_are_saved(tmp_path, abstract):
    checkpoints = Checkpoints(tmp_path)
    zero = jax.jit(lambda s: jax.tree.map(jnp.zeros_like, s), donate_argnums=0)
    overwrite = jax.jit(
        lambda s: jax.tree.map(lambda x: x * 0 - 1, s), donate_argnums=0
    )
    state = make_state(3)
    checkpoints.save(3, state, {}, force=True)
    overwrite(zero(state))
    state, _, _ = latest(checkpoints, abstract)
    assert_equal(state, make_state(3))
    checkpoints.close()


def test_the_state_of_an_optimizer_is_left_out_where_none_is_asked_for(tmp_path):
    kernel = make_state(1).params["kernel"]
    state = {"params": {"kernel": kernel}, "opt_state": {"mu": kernel + 1}}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state, {"position": 8}, force=True)
    shape = jax.ShapeDtypeStruct(kernel.shape, kernel.dtype, sharding=kernel.sharding)
    to_use = {"params": {"kernel": shape}, "opt_state": None}
    restored, _, _ = latest(checkpoints, to_use)
    assert restored["opt_state"] is None
    np.testing.assert_array_equal(restored["params"]["kernel"], kernel)
    with pytest.raises(ClipinError, match="params/other is absent there"):
        checkpoints.restore(1, to_use | {"params": {"kernel": shape, "other": shape}})
    with pytest.raises(ClipinError, match="opt_state/nu is absent there"):
        checkpoints.restore(1, to_use | {"opt_state": {"mu": shape, "nu": shape}})
    checkpoints.close()


def test_restores_to_another_sharding(tmp_path, abstract):
    save_steps(tmp_path, [1])
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    elsewhere = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), abstract
    )
    checkpoints = Checkpoints(tmp_path, read_only=True)
    state, _ = checkpoints.restore(1, elsewhere)
    assert state.params["kernel"].sharding == device
    expected = np.asarray(make_state(1).params["kernel"])
    np.testing.assert_array_equal(np.asarray(state.params["kernel"]), expected)
    checkpoints.close()


def test_keeps_the_last_few_every_so_many_and_the_best(tmp_path):
    scores = {1: 0.1, 2: 0.9, 3: 0.2, 4: 0.3, 5: float("nan"), 6: 0.4}
    options: dict[str, Any] = dict(
        every_steps=1, keep_last=2, keep_every_steps=4, best_metric="eval/score"
    )
    checkpoints = Checkpoints(tmp_path, **options)
    for step, score in scores.items():
        checkpoints.save(step, make_state(step), {})
        assert not checkpoints.has_scores(step)
        checkpoints.add_scores(step, {"eval/score": score, "eval/other": 1.0})
        assert checkpoints.has_scores(step)
    checkpoints.close()
    assert step_folders(tmp_path) == [2, 4, 5, 6]

    again = Checkpoints(tmp_path, **options)  # the best one is known after a restart
    again.save(7, make_state(7), {})
    again.add_scores(7, {"eval/score": 0.5})
    again.save(8, make_state(8), {})
    again.close()
    assert step_folders(tmp_path) == [2, 4, 7, 8]


def test_a_new_best_checkpoint_replaces_the_old_one_at_once(tmp_path):
    checkpoints = Checkpoints(tmp_path, every_steps=1, best_metric="score")
    for step, score in ((1, 0.5), (2, 0.1), (3, 0.9)):
        checkpoints.save(step, make_state(step), {})
        checkpoints.add_scores(step, {"score": score})
        checkpoints.wait()
        assert step_folders(tmp_path) == {1: [1], 2: [1, 2], 3: [3]}[step]
    checkpoints.close()


def test_damaged_scores_count_as_none(tmp_path, abstract):
    save_steps(tmp_path, [1, 2])
    (tmp_path / "2" / "scores.json").write_text('{"score": ')
    checkpoints = Checkpoints(tmp_path, best_metric="score")
    assert not checkpoints.has_scores(2)
    assert latest(checkpoints, abstract)[2] == 2


def test_retention_of_the_lowest():
    retention = Retention(last=1, every_steps=0, mode="min", scores={1: 3.0, 2: 1.0})
    assert retention.kept([1, 2, 3, 4]) == {2, 4}
    assert Retention(1, 0, "max", {}, {4}).kept([3, 4]) == {3}
    with pytest.raises(ClipinError, match="keep_last is 0"):
        Retention(0, 0, "max")
    with pytest.raises(ClipinError, match="best_mode is 'best'"):
        Retention(1, 0, "best")


def test_warns_of_a_best_metric_that_is_not_measured(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path, every_steps=1, best_metric="retrieval/R@1")
    checkpoints.save(1, make_state(1), {})
    checkpoints.add_scores(1, {"retrieval/R@10": 1.0})
    checkpoints.close()
    assert "did you mean 'retrieval/R@10'" in caplog.text


def test_the_run_folder_of_another_config_is_named(tmp_path, abstract):
    save_steps(tmp_path, [1])
    checkpoints = Checkpoints(tmp_path)
    wider = shapes_of(make_state(0, width=32))
    with pytest.raises(ClipinError) as error:
        checkpoints.restore_latest(wider)
    expected = ("another config", "params/half", "bfloat16[64, 16]", "bfloat16[64, 32]")
    assert all(part in str(error.value) for part in expected)
    more = dataclasses.replace(abstract, target={"kernel": abstract.params["kernel"]})
    with pytest.raises(ClipinError, match="target/kernel is absent there"):
        checkpoints.restore_latest(more)
    checkpoints.close()
    assert step_folders(tmp_path) == [1]


def test_read_only_leaves_a_running_save_alone(tmp_path):
    save_steps(tmp_path, [1])
    (tmp_path / "2.orbax-checkpoint-tmp").mkdir()
    checkpoints = Checkpoints(tmp_path, read_only=True)
    assert checkpoints.latest_step() == 1
    checkpoints.close()
    assert (tmp_path / "2.orbax-checkpoint-tmp").is_dir()
    writer = Checkpoints(tmp_path)
    assert writer.latest_step() == 1
    writer.save(2, make_state(2), {}, force=True)
    writer.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2"]


def test_only_orbax_is_silenced(tmp_path, caplog):
    from absl import logging

    Checkpoints(tmp_path).close()
    logging.warning("from elsewhere")
    assert "from elsewhere" in caplog.text
