"""Comet."""

from collections.abc import Mapping
from typing import Any

from clipin_jax.runs.loggers.base import RunFacts, import_extra


class Comet:
    """Logs to Comet, by its package `comet_ml`."""

    def __init__(
        self,
        project: str = "clipin_jax",
        name: str = "",
        group: str = "",
        workspace: str = "",
        offline: bool = False,
    ):
        """Takes the arguments of the config.

        Args:
          project: where the run is listed.
          name: of the run; "" for that of its folder.
          group: of runs that belong together, as those of a sweep; a tag.
          workspace: of the project; "" for that of the login.
          offline: write an archive into RUN/comet at the end, which `comet upload`
            sends later.
        """
        self._comet = import_extra("comet_ml", "comet")
        self._project, self._name, self._group = project, name, group
        self._workspace, self._offline = workspace or None, offline
        self._experiment: Any = None

    def init(self, run: RunFacts, run_id: str) -> str:
        """Opens the run, or goes on with that of an earlier start."""
        arguments = {}
        if self._offline:
            arguments["offline_directory"] = str(run.workdir / "comet")
        self._experiment = self._comet.start(
            project_name=self._project,
            workspace=self._workspace,
            experiment_key=run_id or None,
            online=not self._offline,
            mode="get_or_create",
            experiment_config=self._comet.ExperimentConfig(
                name=self._name or run.name,
                tags=[self._group] if self._group else None,
                log_code=False,
                log_graph=False,
                auto_output_logging=False,
                parse_args=False,
                **arguments,
            ),
        )
        self._experiment.log_parameters(dict(run.config))
        return self._experiment.get_key()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Hands the metrics to its thread, which sends them."""
        self._experiment.log_metrics(dict(values), step=step)

    def finish(self) -> None:
        """Waits until all is sent or written."""
        self._experiment.end()
