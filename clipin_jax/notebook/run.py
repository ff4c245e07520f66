"""A run folder as an object: its scores, curves, report and model; and how to go on."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path

import pyarrow
from ml_collections import ConfigDict

from clipin_jax import storage
from clipin_jax.config import apply_overrides, load_config, named_run
from clipin_jax.errors import ClipinError
from clipin_jax.inference.model import Model, load
from clipin_jax.notebook import charts
from clipin_jax.notebook.charts import Charts
from clipin_jax.notebook.history import history_table
from clipin_jax.notebook.scores import Scores
from clipin_jax.notebook.training import train_here
from clipin_jax.report.components import fold
from clipin_jax.report.fragment import InlinePage, fragment
from clipin_jax.report.run_history import (
    RunHistory,
    read_history,
    run_labels,
)
from clipin_jax.report.run_report import overview, scores
from clipin_jax.report.run_report.page import report_page
from clipin_jax.runs.folder import load_folder
from clipin_jax.runs.run_copy import holds_run, open_copy
from clipin_jax.training.evaluate import Watch, never_stop


class Run:
    """A run folder.

        run = clipin_jax.Run("runs/first")
        run.scores["retrieval/mean_recall"]

    The run may still be training elsewhere: each access reads what is there by then. Of
    a URL it is what was there when this object was made.

    Attributes:
      workdir: the path or URL of the folder.
      config: of the run, locked.
    """

    def __init__(self, workdir: str | Path):
        """Opens a run.

        Args:
          workdir: the run's folder, by path or URL.

        Raises:
          ClipinError: the folder holds no run, or cannot be read.
        """
        self._copy = open_copy(workdir)
        with self._copy.named():
            self.config: ConfigDict = load_folder(self._copy.folder)
        if not holds_run(self._copy.folder):
            raise ClipinError(f"{self._copy.name} is no run folder, but a model's")
        self.workdir = self._copy.name

    @property
    def finished(self) -> bool:
        """Whether it took its last step and was evaluated."""
        return self._history().finished

    @property
    def scores(self) -> Scores:
        """The last value of every score, "EVALUATION/METRIC" -> float."""
        return Scores(self._history())

    @property
    def history(self) -> pyarrow.Table:
        """What was logged: a row for each step, a column for each metric.

        `step` is int64, metrics are float64 and null where they were not logged, or not
        finite. `history.to_pandas()` makes a frame of pandas.
        """
        return history_table(self._history())

    @functools.cached_property
    def model(self) -> Model:
        """The model of the newest checkpoint, as `clipin_jax.load` returns it.

        Raises:
          ClipinError: there is no checkpoint yet.
        """
        return load(self.workdir)

    def plot(
        self, *metrics: str, beside: RunOrFolder | Sequence[RunOrFolder] = ()
    ) -> Charts:
        """Returns charts for a notebook.

        Args:
          metrics: columns of `history`; the start of a name may be left out if that is
            clear. By default the losses and the headlines among the scores.
          beside: other runs or their folders, drawn into the same charts.

        Raises:
          ClipinError: a metric was not logged, with the nearest ones; or a folder holds
            no run.
        """
        others = [beside] if isinstance(beside, RunOrFolder) else beside
        histories = _histories([self, *map(_as_run, others)])
        chance = charts.chance_losses(self.config)
        names = [charts.find_metric(name, histories) for name in metrics]
        return Charts(
            histories, names or charts.main_metrics(histories, chance), chance
        )

    def report(
        self, *others: RunOrFolder, output: str | Path | None = None
    ) -> InlinePage:
        """Returns the report page, which a notebook shows in a frame.

        Args:
          others: runs to compare with, or their folders.
          output: also writes the page to this file, by path or URL.

        Raises:
          ClipinError: a folder holds no run, or the file cannot be written.
        """
        histories = _histories([self, *map(_as_run, others)])
        names = " and ".join(history.label for history in histories)
        page = InlinePage(f"Report of {names}", report_page(histories))
        if output is not None:
            page.save(output)
        return page

    def resume(self, overrides: Sequence[str] = ()) -> Run:
        """Goes on from the newest checkpoint, and returns the run.

        Args:
          overrides: "KEY=VALUE", of keys that may change, such as "total_steps=2000" of
            a finished run.

        Raises:
          ClipinError: another process trains this run, or a key must not change.
        """
        return train(self.workdir, overrides=overrides)

    def _history(self) -> RunHistory:
        return read_history(self._copy, Path(self.workdir).name)

    def __repr__(self) -> str:
        history = self._history()
        state = "finished" if history.finished else "not finished"
        total = self.config.total_steps
        return (
            f"<Run {self.workdir}: {history.last_step:,} of {total:,} steps, {state}>"
        )

    def _repr_html_(self) -> str:
        history = self._history()
        return fragment(
            overview.runs_table([history]),
            scores.scores_section([history]),
            fold("Curves", self.plot().markup()),
            fold("Config", overview.configs_section([history])),
            style=overview.STYLE + scores.STYLE,
        )


RunOrFolder = Run | str | Path


def _as_run(given: RunOrFolder) -> Run:
    return given if isinstance(given, Run) else Run(given)


def _histories(runs: Sequence[Run]) -> list[RunHistory]:
    """Returns what the runs logged, each with a label of its own."""
    copies = {storage.absolute(run.workdir): run._copy for run in runs}
    labels = run_labels(list(copies))
    pairs = zip(copies.values(), labels, strict=True)
    return [read_history(copy, label) for copy, label in pairs]


def train(
    config: ConfigDict | str | Path,
    workdir: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    profile: str = "",
    watch: Watch = never_stop,
    end: float = math.inf,
) -> Run:
    """Trains a model, or resumes a run, and returns the run.

        run = clipin_jax.train("quickstart:clipin", "runs/first", ["total_steps=200"])

    The same call returns a finished run at once, and goes on with one that was stopped.
    In a notebook it shows the progress and the loss while it trains. Ctrl-C there (the
    interrupt of the kernel) saves everything and returns the unfinished run.

    Args:
      config: of `load_config`, or what it takes: "NAME:OPTIONS", a path, or a run's
        folder.
      workdir: the run's folder, by path or URL; None for `runs/NAME`, or the run that
        `config` names.
      overrides: "KEY=VALUE", applied to the config.
      profile, watch, end: as for `training.loop.train`.

    Returns:
      The run; `finished` unless it was stopped, with everything saved.

    Raises:
      ClipinError: an error in the config, the data, the folder or the disk, too many
        steps in a row that are not finite, or another process trains this run.
      KeyboardInterrupt: Ctrl-C stopped it outside of IPython, with everything saved.
    """
    if isinstance(config, ConfigDict):
        run, resolved = None, apply_overrides(config, overrides)
    else:
        run, resolved = named_run(str(config)), load_config(config, overrides)
    if not (workdir or run or resolved.name):
        raise ClipinError("name is '', which names no folder in runs: give a workdir")
    folder = workdir or run or f"runs/{resolved.name}"
    train_here(resolved, folder, profile=profile, watch=watch, end=end)
    return Run(folder)
