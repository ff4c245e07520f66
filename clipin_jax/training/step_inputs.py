"""What a training step gets: its batch and its numbers, placed on the devices."""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from clipin_jax.core import sharding
from clipin_jax.data.pipeline import TrainBatches
from clipin_jax.report.run_report.saved_examples import PAIRS, save_pairs
from clipin_jax.runs.build import Experiment
from clipin_jax.types import Batch, Hyper


class StepInputs:
    """Makes the inputs of the steps of a run, in turn."""

    def __init__(self, experiment: Experiment, batches: TrainBatches, workdir: Path):
        """Takes no batch yet.

        Args:
          experiment: everything that the config builds.
          batches: the training data, at their position.
          workdir: the run's folder, for examples of the first batch.
        """
        self._experiment, self._batches = experiment, batches
        self._workdir = workdir
        self._numbers = sharding.PlacedNumbers(experiment.mesh)

    @functools.partial(jax.profiler.annotate_function, name="data")
    def next_batch(self, step: int) -> tuple[np.ndarray, Batch]:
        """Returns the indices of the batch's examples, [B] int, and the placed batch.

        step: number of steps taken before.
        """
        batch = next(self._batches)
        if step == 0 and jax.process_index() == 0:
            self._save_examples(batch)
        indices = batch.pop("index")
        return indices, sharding.put(batch, self._experiment.mesh)

    def _save_examples(self, batch: Any) -> None:
        first_pairs = jax.tree.map(lambda rows: rows[:PAIRS], batch)
        views = self._experiment.views(first_pairs)
        save_pairs(self._workdir, views, self._batches.tokenizer)

    def hyper(self, step: int) -> Hyper:
        """Returns the placed hyper-parameters; step: as for `next_batch`."""
        return self._numbers.place(self._experiment.hyper(step))
