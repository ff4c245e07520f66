"""Overrides that choose an optimizer and freeze a tower, through train and resume."""

import json
import signal

import jax
import numpy as np
import pytest

from clipin_jax.core.parameter_paths import paths_of
from clipin_jax.errors import DONE, REQUEUE
from clipin_jax.training.loop import train
from tests.support import tiny_runs

OVERRIDES = (
    "optim.name=lion",
    "optim.b2=0.95",
    "optim.layer_decay=0.5",
    "optim.groups=(('^towers/image/', {'freeze': True}), "
    "('^objectives_clipin', {'learning_rate': 2.0, 'clip_norm': 1.0}))",
)


@pytest.mark.slow
def test_run_with_a_frozen_tower_is_resumed(tmp_path):
    config = tiny_runs.tiny_run(*OVERRIDES)
    uninterrupted, interrupted = tmp_path / "uninterrupted", tmp_path / "interrupted"
    with tiny_runs.on_one_device():
        assert train(config, uninterrupted) == DONE
        with tiny_runs.signal_at(3, signal.SIGTERM):
            assert train(config, interrupted) == REQUEUE
        assert train(config, interrupted) == DONE
        tiny_runs.assert_same_run(config, uninterrupted, interrupted)
        states = [tiny_runs.load_state(config, interrupted, step)[0] for step in (3, 6)]
    before, after = (
        dict(zip(paths_of(s.params), jax.tree.leaves(s.params), strict=True))
        for s in states
    )
    for path in before:
        same = np.array_equal(before[path], after[path])
        assert same == path.startswith("towers/image/"), path
    saved = json.loads((interrupted / "config.json").read_text())["optim"]
    assert (saved["name"], saved["b1"], saved["b2"]) == ("lion", 0.9, 0.95)
    assert saved["groups"][0] == ["^towers/image/", {"freeze": True}]
