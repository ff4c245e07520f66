"""Run folders with checkpoints of a few small arrays, without a model."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from clipin_jax.runs.checkpoint import Checkpoints
from clipin_jax.runs.folder import open_folder


def small_state(seed: int, **changed: np.ndarray) -> dict[str, np.ndarray]:
    """Returns name -> array of a state; `changed` replaces or adds parameters."""
    rng = np.random.default_rng(seed)
    params = {"kernel": rng.standard_normal((6, 4), np.float32), **changed}
    return {
        "step": np.asarray(seed, np.int32),
        **{f"params/{name}": array for name, array in params.items()},
        "collections/batch_stats/mean": rng.standard_normal(4, np.float32),
        "target_params/kernel": rng.standard_normal((6, 4), np.float32),
        "opt_state/mu/kernel": rng.standard_normal((6, 4), np.float32),
    }


def save_run(
    folder: Path, config: ConfigDict, states: Mapping[int, Mapping[str, np.ndarray]]
) -> Path:
    """Writes a run folder with a checkpoint for each step."""
    open_folder(config, folder)
    checkpoints = Checkpoints(folder / "checkpoints", keep_last=len(states))
    with contextlib.closing(checkpoints):
        for step, state in states.items():
            checkpoints.save(step, dict(state), {"position": step}, force=True)
    return folder
