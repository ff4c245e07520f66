"""Values that are allowed and make no sense: refused, or a warning, before step 1."""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from clipin_jax.config import adamw, config_groups
from clipin_jax.core.parameter_paths import paths_of, require_match
from clipin_jax.errors import ClipinError, did_you_mean
from clipin_jax.runs.build import Experiment

_log = logging.getLogger(__name__)
_SAMPLED = 64  # steps at which schedules are evaluated
_STANDARD = adamw(0.0, 0.0)  # its patterns are for every model: some match nothing
# Keys that count steps, and what happens if none of them is reached.
_EVERY = {
    "checkpoint.every_steps": "there is no checkpoint before the last step",
    "checkpoint.keep_every_steps": "it keeps no checkpoint",
    "log_every_steps": "only the last step is logged",
    "health_every_steps": "health is never measured",
}


def check_values(experiment: Experiment) -> None:
    """Checks values that a run would accept, and that make no sense.

    Raises:
      ClipinError: no pair could be compared in a batch; a temperature, rate, decay or
        pattern that cannot be meant; a dtype that the devices cannot multiply.
    """
    config = experiment.config
    _check_dtypes(config, experiment.mesh.devices.flat[0].platform)
    _check_objectives(experiment)
    _check_numbers(experiment)
    _check_patterns(config.optim, experiment.abstract_state.params)
    for warning in _warnings(config):
        _log.warning("%s", warning)


def _check_dtypes(config: ConfigDict, platform: str) -> None:
    for key in ("dtype", "param_dtype"):
        if platform == "cpu" and config.model[key] == "float16":
            raise ClipinError(
                f"model.{key} is 'float16', which CPUs cannot multiply: use 'float32', "
                "or 'bfloat16'"
            )


def _check_objectives(experiment: Experiment) -> None:
    size = experiment.config.batch_size
    for name, objective in experiment.learner.objectives.items():
        count = getattr(objective, "num_choices", None)
        if count is not None and count(size) < 2:
            raise ClipinError(
                f"batch_size is {size}, and objectives.{name} compares the pairs of a "
                "batch: with one alone its loss is always 0; raise batch_size"
            )
        temperature = getattr(objective, "init_temperature", 1.0)
        if not 0 < temperature < math.inf:
            raise ClipinError(
                f"objectives.{name}.init_temperature is {temperature:g}: give a number "
                "above 0"
            )


def _check_numbers(experiment: Experiment) -> None:
    """Checks rates and decays at steps from the first to the last."""
    last = experiment.config.total_steps - 1
    steps = sorted({round(last * i / (_SAMPLED - 1)) for i in range(_SAMPLED)})
    sampled = [(step, experiment.hyper(step)) for step in steps]
    limits = {
        "optim.learning_rate": math.inf,
        "optim.weight_decay": math.inf,
        "target.decay": 1.0,
    }
    for key, most in limits.items():
        group, _, name = key.partition(".")
        for step, hyper in sampled:
            value = float(hyper[group][name])
            if not 0 <= value <= most or math.isinf(value):
                limit = "of at least 0" if most == math.inf else f"from 0 to {most:g}"
                raise ClipinError(
                    f"{key} is {value:g} at step {step}: give a number {limit}"
                )
    if not any(float(hyper["optim"]["learning_rate"]) for _, hyper in sampled):
        _log.warning("optim.learning_rate is 0 in every step: nothing is learned")


def _check_patterns(optim: ConfigDict, params: Any) -> None:
    paths = paths_of(params)
    patterns = [("optim.no_decay", pattern) for pattern in optim.get("no_decay", ())]
    patterns += [("optim.bounds", bound[0]) for bound in optim.get("bounds", ())]
    standard = {*_STANDARD["no_decay"], *(bound[0] for bound in _STANDARD["bounds"])}
    for where, pattern in patterns:
        if pattern not in standard:
            require_match(pattern, paths, where)


def _warnings(config: ConfigDict) -> Iterator[str]:
    steps = config.total_steps
    for place, group in config_groups(config):
        if "schedule" in group:
            yield from _schedule_warnings(place, group, steps)
    yield from _unreached(config, steps)
    if "best_metric" in config.checkpoint:
        yield from _metric_warnings(config.checkpoint.best_metric, config.evals)


def _schedule_warnings(
    place: str, schedule: Mapping[str, Any], steps: int
) -> Iterator[str]:
    warmup, end = schedule.get("warmup_steps", 0), schedule.get("total_steps", steps)
    if warmup >= steps:
        yield (
            f"{place}.warmup_steps is {warmup}, but the run has {steps} steps: "
            f"{place} never reaches its peak"
        )
    if end < steps:
        yield (
            f"{place}.total_steps is {end}, but the run has {steps} steps: {place} "
            f"stays at its end from step {end} on; set {place}.total_steps too"
        )


def _unreached(config: ConfigDict, steps: int) -> Iterator[str]:
    keys = dict(_EVERY) | {
        f"evals.{name}.every_steps": "it is run after the last step alone"
        for name in config.evals
    }
    for key, consequence in keys.items():
        value = _value(config, key.split("."))
        if value > steps:
            yield f"{key} is {value}, but the run has {steps} steps: {consequence}"


def _value(config: ConfigDict, words: Iterable[str]) -> Any:
    """Returns a value, 0 if it is left out."""
    value: Any = config
    for word in words:
        value = value.get(word, 0)
    return value


def _metric_warnings(metric: str, evals: ConfigDict) -> Iterator[str]:
    name = metric.partition("/")[0]
    if metric and len(evals) and name not in evals:
        yield (
            f"checkpoint.best_metric is {metric!r}, but evals has no {name!r}, so the "
            f"best checkpoint is not kept: {did_you_mean(name, evals)}"
        )
