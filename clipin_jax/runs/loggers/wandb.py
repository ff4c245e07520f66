"""Weights & Biases."""

from collections.abc import Mapping
from typing import Any

from clipin_jax.runs.loggers.base import RunFacts, import_extra


class Wandb:
    """Logs to Weights & Biases, by its package `wandb`."""

    def __init__(
        self,
        project: str = "clipin_jax",
        name: str = "",
        group: str = "",
        entity: str = "",
        offline: bool = False,
    ):
        """Takes the arguments of the config.

        Args:
          project: where the run is listed.
          name: of the run; "" for that of its folder.
          group: of runs that belong together, as those of a sweep.
          entity: user or team; "" for that of the login.
          offline: write RUN/wandb, which `wandb sync` uploads later. Otherwise
            WANDB_MODE decides.
        """
        self._wandb = import_extra("wandb", "wandb")
        self._arguments = dict(
            project=project, name=name, group=group or None, entity=entity or None
        )
        self._mode = "offline" if offline else None
        self._run: Any = None

    def init(self, run: RunFacts, run_id: str) -> str:
        """Opens the run, or goes on with that of an earlier start."""
        self._run = self._wandb.init(
            **self._arguments | {"name": self._arguments["name"] or run.name},
            id=run_id or None,
            resume="allow",
            mode=self._mode,
            dir=str(run.workdir),
        )
        self._run.config.update(dict(run.config), allow_val_change=True)
        # Its own steps cannot go back, as ours do when a run is resumed.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        return self._run.id

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Hands the metrics to its process, which sends them."""
        self._run.log({**values, "step": step})

    def finish(self) -> None:
        """Waits until all is sent."""
        self._run.finish()
