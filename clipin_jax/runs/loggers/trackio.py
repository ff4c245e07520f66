"""Trackio: a local data base, or a Space of the Hugging Face hub."""

from collections.abc import Mapping

from clipin_jax.runs.loggers.base import RunFacts, import_extra


class Trackio:
    """Logs with the package `trackio`; `trackio show` opens its page."""

    def __init__(
        self,
        project: str = "clipin_jax",
        name: str = "",
        group: str = "",
        space_id: str = "",
    ):
        """Takes the arguments of the config.

        Args:
          project: where the run is listed; locally in the folder TRACKIO_DIR.
          name: of the run; "" for that of its folder.
          group: of runs that belong together, as those of a sweep.
          space_id: "owner/space" of the hub to log to; "" for this machine.
        """
        self._trackio = import_extra("trackio", "trackio")
        self._project, self._name = project, name
        self._group, self._space_id = group or None, space_id or None

    def init(self, run: RunFacts, run_id: str) -> str:
        """Opens the run, or goes on with that of an earlier start."""
        name = run_id or self._name or run.name
        self._trackio.init(
            project=self._project,
            name=name,
            group=self._group,
            space_id=self._space_id,
            config=dict(run.config),
            resume="must" if run_id else "never",
        )
        return name

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Hands the metrics to its thread, which writes them."""
        self._trackio.log(dict(values), step=step)

    def finish(self) -> None:
        """Waits until all is written."""
        self._trackio.finish()
