"""Evaluates weights between those of a run and those that it started from (WiSE-FT)."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from clipin_jax import __version__, storage
from clipin_jax.core.state import TrainState
from clipin_jax.errors import ClipinError, check_range
from clipin_jax.evaluators.base import shown_figures
from clipin_jax.inference.build import open_run, restore_state
from clipin_jax.runs.checkpoint_tools.saved_checkpoint import (
    SavedCheckpoint,
    check_same_model,
    open_checkpoint,
)
from clipin_jax.runs.folder import environment
from clipin_jax.training import console
from clipin_jax.training.evaluate import choose_evaluators, evaluate_state

_WEIGHTS = ("params", "collections", "target_params", "target_collections")


def evaluate_interpolated(
    workdir: str | Path,
    alphas: Sequence[float],
    *,
    other: str = "",
    step: int | None = None,
    output: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> dict[float, dict[str, float]]:
    """Evaluates alpha * weights + (1 - alpha) * other weights (arXiv 2109.01903).

    Prints a row of scores for each alpha, and writes all as JSON.

    Args:
      workdir: the run's folder, by path or URL.
      alphas: the shares of the run, from 0 to 1.
      other: RUN or RUN@STEP of the other weights, of the same model; "" for step 0 of
        the run itself.
      step: the checkpoint's step; None for the newest undamaged one.
      output: the JSON file, by path or URL; `eval/<step>-interpolated.json` in the
        run's folder if None.
      overrides: as for `evaluate`.

    Returns:
      alpha -> `EVALUATOR/METRIC` -> number.

    Raises:
      ClipinError: no such run or checkpoint, no evaluators in the config, another
        model, or an alpha out of range.
    """
    for alpha in alphas:
        check_range("--interpolate", alpha, 0, 1)
    run = open_run(workdir)
    _, evaluators = choose_evaluators(run, overrides)
    start = _other_end(str(workdir), step, other)
    state, step = run.restore(step)
    first, _ = restore_state(start.copy, start.step, run.abstract_state)
    rows = {}
    with jax.set_mesh(run.encoder.mesh):
        for alpha in alphas:
            rows[alpha] = evaluate_state(evaluators, interpolate(state, first, alpha))
    if jax.process_index() == 0:
        figures = shown_figures(evaluators, next(iter(rows.values())))
        print(f"clipin: alpha x {run.copy.name}@{step} + (1 - alpha) x {start.label}")
        print(console.interpolations(rows, figures))
        path = output or storage.join(run.copy.name, f"eval/{step}-interpolated.json")
        content = json.dumps(_record(step, start, rows), indent=2) + "\n"
        written = storage.write_output(path, content)
        print(f"clipin: written to {storage.full_path(written)}")
    return rows


@jax.jit
def interpolate(state: TrainState, other: TrainState, alpha: float) -> TrainState:
    """Returns alpha * state + (1 - alpha) * other, of all weights and statistics.

    Computed in float32 at least. Arrays of whole numbers are those of `state`.
    """

    def mix(a: jax.Array, b: jax.Array) -> jax.Array:
        if not jnp.issubdtype(a.dtype, jnp.floating):
            return a
        wide = jnp.promote_types(a.dtype, jnp.float32)
        return (alpha * a.astype(wide) + (1 - alpha) * b.astype(wide)).astype(a.dtype)

    mixed = {
        name: jax.tree.map(mix, getattr(state, name), getattr(other, name))
        for name in _WEIGHTS
    }
    return dataclasses.replace(state, **mixed)


def _other_end(run: str, step: int | None, other: str) -> SavedCheckpoint:
    """Returns the checkpoint of alpha 0, of the same model as the run's."""
    name = run if step is None else f"{run}@{step}"
    checkpoint = open_checkpoint(name, with_arrays=False)
    if not other and 0 not in checkpoint.steps:
        raise ClipinError(
            f"{checkpoint.copy.name} has no checkpoint of step 0: name the weights "
            "that it started from, as --with RUN@STEP"
        )
    start = open_checkpoint(other or f"{run}@0")
    check_same_model(checkpoint, start)
    return start


def _record(
    step: int, start: SavedCheckpoint, rows: dict[float, dict[str, float]]
) -> dict[str, Any]:
    return {
        "step": step,
        "with": {"run": start.copy.name, "step": start.step},
        "rows": [{"alpha": alpha, **scores} for alpha, scores in rows.items()],
        "environment": {"clipin_jax": __version__, **environment()},
    }
