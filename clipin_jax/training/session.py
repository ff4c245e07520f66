"""What a process that trains has open."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path

from ml_collections import ConfigDict

from clipin_jax.data.pipeline import TrainBatches
from clipin_jax.evaluators.base import Evaluator
from clipin_jax.runs.build import Experiment
from clipin_jax.runs.checkpoint import Checkpoints
from clipin_jax.runs.goodput import Goodput
from clipin_jax.runs.loggers.run_loggers import RunLoggers
from clipin_jax.training.evaluate import Watch, due_evaluators, never_stop
from clipin_jax.training.progress import View

# Returns what shows a run, given its config, its folder on this machine, and the step
# from which it goes on.
MakeView = Callable[[ConfigDict, Path, int], View]


@dataclasses.dataclass(frozen=True)
class Session:
    """The open resources of a process that trains.

    Attributes:
      experiment: everything that the config builds.
      name: the path or URL of the run's folder.
      workdir: the run's folder, or the copy of it on this machine.
      batches: the training data.
      evaluators: by their names in `config.evals`.
      checkpoints: of this run.
      loggers: of its metrics.
      goodput: counts where its time goes.
      watch: may stop the run after an evaluation.
      end: when the run must have ended, by `time.monotonic`; infinite for no limit.
      make_view: makes what shows the run; None for the terminal.
    """

    experiment: Experiment
    name: str
    workdir: Path
    batches: TrainBatches
    evaluators: Mapping[str, Evaluator]
    checkpoints: Checkpoints
    loggers: RunLoggers
    goodput: Goodput
    watch: Watch = never_stop
    end: float = math.inf
    make_view: MakeView | None = None

    def new_view(self, step: int) -> View | None:
        """Returns what shows the run from `step` on; None for the terminal."""
        if self.make_view is None:
            return None
        return self.make_view(self.experiment.config, self.workdir, step)

    def due(self, step: int) -> dict[str, Evaluator]:
        """Returns the evaluators that are due; all of them after the last step."""
        return due_evaluators(self.experiment.config, self.evaluators, step)
