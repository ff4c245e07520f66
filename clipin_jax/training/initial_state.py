"""The state before the first step: random, or from the weights that a config names."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from clipin_jax.core.state import TrainState
from clipin_jax.errors import ClipinError
from clipin_jax.inference.foreign import is_foreign
from clipin_jax.inference.open_model import open_model as open_any_model
from clipin_jax.interop.descriptions.own_format import own_model
from clipin_jax.interop.exports.trained_model import Facts, trained_model
from clipin_jax.interop.foreign_model import ForeignModel
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
        open_model(source) if is_foreign(source) else _run_weights(source),
        config,
        parts=config.init_parts,
        keep=(*config.init_keep, *(lora.factors for lora in experiment.learner.lora)),
        report=report,
    )


class _HeldArrays:
    """Arrays in memory, by name; see `interop.weights.Weights`."""

    def __init__(self, origin: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes arrays by name; origin: for messages."""
        self.origin = origin
        self.metadata: Mapping[str, Any] = {}
        self._arrays = arrays

    def names(self) -> Sequence[str]:
        """Returns all names."""
        return tuple(self._arrays)

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of an array."""
        return self.read(name).shape

    def dtype(self, name: str) -> np.dtype:
        """Returns the dtype of an array."""
        return self.read(name).dtype

    def read(self, name: str) -> np.ndarray:
        """Returns an array. Raises ClipinError if there is none of that name."""
        if name not in self._arrays:
            raise ClipinError(f"{self.origin} has no array {name!r}")
        return self._arrays[name]


def _run_weights(source: str) -> ForeignModel:
    """Opens the online branch of a run as a model to start from.

    Low-rank factors are merged. All arrays are read, onto the host.

    Args:
      source: RUN or RUN@STEP.

    Raises:
      ClipinError: no such run or checkpoint.
    """
    opened = open_any_model(source)
    facts = Facts(name=opened.name, step=0, scores=(), command="", license="")
    model = trained_model(opened.config, opened.state.variables, facts)
    weights = _HeldArrays(opened.name, model.arrays)
    return own_model(f"the run {opened.name}", weights, model.config)
