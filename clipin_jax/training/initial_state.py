"""The state before the first step: random, or from the weights that a config names."""

import sys
from collections.abc import Callable

import jax

from clipin_jax.core.state import TrainState
from clipin_jax.interop.initial_weights import start_from
from clipin_jax.interop.open_model import open_model
from clipin_jax.runs.build import Experiment


def print_line(line: str) -> None:
    """Prints a line about weights, in the first process."""
    if jax.process_index() == 0:
        print(f"clipin: init_from: {line}", file=sys.stderr)


def initial_state(
    experiment: Experiment, report: Callable[[str], None] = print_line
) -> TrainState:
    """Returns the state of step 0, placed on the mesh.

    Args:
      experiment: whose config has `init_from`, `init_parts` and `init_keep`; a run from
        before has none.
      report: gets lines that say what was read. Low-rank factors start from scratch.

    Raises:
      ClipinError: the weights cannot be read, or are those of another model.
    """
    state, config = experiment.init_state(), experiment.config
    if not (source := config.get("init_from", "")):
        return state
    return start_from(
        state,
        open_model(source),
        config,
        parts=config.init_parts,
        keep=(*config.init_keep, *(lora.factors for lora in experiment.learner.lora)),
        report=report,
    )
