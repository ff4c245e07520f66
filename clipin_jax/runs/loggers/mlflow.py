"""MLflow."""

import os
import time
from collections.abc import Mapping

from clipin_jax.runs.loggers.base import RunFacts, import_extra

_LONGEST = 500  # letters of the value of a parameter
_AT_ONCE = 100  # parameters in a request
# A server that is away must not hold up training for long.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class MLflow:
    """Logs to an MLflow server, or a store of this machine."""

    def __init__(
        self,
        project: str = "clipin_jax",
        name: str = "",
        group: str = "",
        tracking_uri: str = "",
    ):
        """Takes the arguments of the config.

        Args:
          project: the experiment of MLflow where the run is listed.
          name: of the run; "" for that of its folder.
          group: of runs that belong together, as those of a sweep; the tag `group`.
          tracking_uri: of the server or store; "" for MLFLOW_TRACKING_URI.
        """
        for key, value in _PATIENCE.items():
            os.environ.setdefault(key, value)
        self._mlflow = import_extra("mlflow", "mlflow")
        self._project, self._name, self._group = project, name, group
        self._uri = tracking_uri or None

    def init(self, run: RunFacts, run_id: str) -> str:
        """Opens the run, or goes on with that of an earlier start."""
        self._client = self._mlflow.MlflowClient(self._uri)
        if run_id:
            self._id = run_id
            self._client.update_run(run_id, status="RUNNING")
            return run_id
        created = self._client.create_run(
            self._experiment(),
            run_name=self._name or run.name,
            tags={"group": self._group} if self._group else {},
        )
        self._id = created.info.run_id
        values = list(_flat(run.config).items())
        for start in range(0, len(values), _AT_ONCE):
            part = values[start : start + _AT_ONCE]
            params = [self._mlflow.entities.Param(k, v[:_LONGEST]) for k, v in part]
            self._client.log_batch(self._id, params=params)
        return self._id

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Sends the metrics."""
        now, metric = int(time.time() * 1000), self._mlflow.entities.Metric
        metrics = [metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def finish(self) -> None:
        """Marks the run as ended; a later start marks it as running again."""
        self._client.set_terminated(self._id)

    def _experiment(self) -> str:
        known = self._client.get_experiment_by_name(self._project)
        if known:
            return known.experiment_id
        return self._client.create_experiment(self._project)


def _flat(config: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Returns the keys of a config with dots, and their values as text."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat
