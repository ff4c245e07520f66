"""Reports a run while it trains: metrics to its loggers, lines to the terminal."""

import contextlib
import functools
from collections.abc import Mapping

import jax

from clipin_jax.data.pipeline import TrainBatches
from clipin_jax.evaluators.base import Figure
from clipin_jax.objectives.health import collapse_warning
from clipin_jax.processes.device_use import idle_gpus
from clipin_jax.processes.joined import this_group
from clipin_jax.runs.build import Experiment
from clipin_jax.runs.goodput import Goodput
from clipin_jax.runs.loggers.run_loggers import RunLoggers
from clipin_jax.training import console
from clipin_jax.training.data_advice import DataAdvice
from clipin_jax.training.measures.chip_use import ChipUse
from clipin_jax.training.measures.step_timing import StepTimer
from clipin_jax.training.progress import Progress, View
from clipin_jax.types import Metrics


class RunLog:
    """Writes metrics, shows progress, and measures the speed."""

    def __init__(
        self,
        *,
        experiment: Experiment,
        run_name: str,
        loggers: RunLoggers,
        goodput: Goodput,
        batches: TrainBatches,
        chip_use: ChipUse,
        step: int,
        view: View | None = None,
    ):
        """Prints the banner and starts to measure.

        Args:
          experiment: everything that the config builds.
          run_name: the path or URL of the run's folder, for the banner.
          loggers: of the run's metrics.
          goodput: counts where the time of the run goes.
          batches: the training data, which counts cut captions and bad records.
          chip_use: of the run's devices.
          step: number of steps taken before; above 0 if the run is resumed.
          view: shows the run; the terminal if None.
        """
        self._loggers, self._batches = loggers, batches
        self._goodput = goodput
        goodput.enter("compile")
        self._view = view or Progress(experiment.config.total_steps, step)
        config = experiment.config
        self._timer, self._batch_size = StepTimer(), config.batch_size
        self._chip_use = chip_use
        self._advice = DataAdvice(config.data, run_name)
        self._shown: dict[str, float] = {}
        facts = console.banner(experiment, run_name, batches.examples_per_epoch, step)
        if idle := idle_gpus(this_group(), jax.local_devices()):
            facts += f"\nclipin: warning: {idle}"
        self.print_line(f"{facts}\nclipin: compiling the first step")

    def print_line(self, text: str) -> None:
        """Prints lines above the progress bar."""
        self._view.print_line(text)

    def waiting_for_data(self) -> contextlib.AbstractContextManager[None]:
        """Counts one step; the time inside counts as waiting for data."""
        return self._timer.waiting()

    def step_starts(self) -> None:
        """Notes that a step is given to the devices now."""
        self._timer.starts()
        self._goodput.step_starts()

    def watch(self, metrics: Metrics) -> None:
        """Measures when the step that was started last is done, without waiting."""
        self._timer.watch(metrics["loss"])

    @functools.partial(jax.profiler.annotate_function, name="metrics")
    def write_metrics(self, step: int, metrics: Metrics) -> None:
        """Waits for a train step; writes its metrics, the speed and what bounds it."""
        numbers = {name: float(value) for name, value in metrics.items()}
        numbers["cut_captions"] = self._batches.cut_captions
        numbers["bad_records"] = self._batches.bad_records
        window = self._timer.read()
        self._goodput.starved(window.starved)
        self._goodput.write(step)
        speed = window.figures(self._batch_size)
        speed |= self._chip_use.figures(speed["images_per_second"])
        values = {f"train/{name}": value for name, value in (numbers | speed).items()}
        self._log(step, values)
        self._shown = {"loss": numbers["loss"], **speed}
        if advice := self._advice.judge(window):
            self.print_line(f"clipin: step {step}: {advice}")

    def show_progress(self, step: int) -> None:
        """Moves the progress bar, and shows the figures that were written last."""
        self._view.update(step, self._shown)

    def write_health(self, step: int, health: Metrics) -> None:
        """Writes the health of the representations; warns if they collapse."""
        values = {name: float(x) for name, x in jax.device_get(health).items()}
        self._log(step, {f"health/{k}": v for k, v in values.items()})
        warning = collapse_warning(values)
        if warning:
            self.print_line(f"clipin: step {step}: warning: {warning}")
        self.restart_timing()

    def write_scores(
        self, step: int, scores: Mapping[str, float], figures: Mapping[str, Figure]
    ) -> None:
        """Writes and shows the scores of an evaluation."""
        self._log(step, scores)
        self._view.show_scores(scores, figures)
        self.restart_timing()

    def _log(self, step: int, values: Mapping[str, float]) -> None:
        self._loggers.log(step, values)
        self._view.log(step, values)

    def restart_timing(self) -> None:
        """Excludes what took time since the last figures from the next ones."""
        self._timer.read()

    def forget_compilation(self) -> None:
        """Excludes the first step from the throughput; warns of captions it cut."""
        self.restart_timing()
        self._goodput.enter("step")
        if self._batches.cut_captions:
            self.print_line(console.cut_captions(self._batches.cut_captions))

    def close(self) -> None:
        """Keeps the progress bar as it is."""
        self._timer.close()
        self._view.close()
