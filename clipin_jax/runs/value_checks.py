"""Values that are allowed and make no sense: refused, or a warning, before step 1."""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from clipin_jax.config import adamw, config_groups
from clipin_jax.core.parameter_paths import paths_of, require_match
from clipin_jax.errors import ClipinError, check_range
from clipin_jax.runs.build import Experiment
from clipin_jax.types import Hyper

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
    _check_counts(config)
    _check_dtypes(config, experiment.mesh.devices.flat[0].platform)
    _check_objectives(experiment)
    _check_numbers(experiment)
    _check_patterns(config.optim, experiment.abstract_state.params)
    for warning in _warnings(config):
        _log.warning("%s", warning)


def _check_counts(config: ConfigDict) -> None:
    """Checks that no count of steps is negative."""
    keys = [key for key in _EVERY if "." in key]
    for place, group in config_groups(config):
        if "schedule" in group:
            keys += [f"{place}.warmup_steps", f"{place}.total_steps"]
    for key in keys:
        if (value := _value(config, key.split("."))) < 0:
            raise ClipinError(f"{key} is {value}: it must be at least 0")


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
    rates = ("optim.learning_rate", "optim.weight_decay")
    limits = dict.fromkeys(rates, (0.0, math.inf)) | {"target.decay": (0.0, 1.0)}
    for name, objective in experiment.learner.objectives.items():
        allowed = getattr(objective, "limits", {})
        for key in sampled[0][1]["objectives"][name]:
            free = (-math.inf, math.inf)
            limits[f"objectives.{name}.{key}"] = allowed.get(key, free)
    for key, (least, most) in limits.items():
        for step, hyper in sampled:
            value = float(_value(hyper, key.split(".")))
            check_range(key, value, least, most, when=f" at step {step}")
    for warning in _odd_numbers([hyper for _, hyper in sampled]):
        _log.warning("%s", warning)


def _odd_numbers(sampled: Sequence[Hyper]) -> Iterator[str]:
    """Yields warnings about numbers that are allowed, and rarely meant."""
    optim = [hyper["optim"] for hyper in sampled]
    if not any(float(numbers["learning_rate"]) for numbers in optim):
        yield "optim.learning_rate is 0 in every step: nothing is learned"
    decay = max(float(numbers["weight_decay"]) for numbers in optim)
    if decay > 1:
        yield (
            f"optim.weight_decay is {decay:g}: a step takes away this many times the "
            "learning rate of each weight, and usual values are below 1"
        )
    for name in sampled[0]["objectives"]:
        numbers = [hyper["objectives"][name] for hyper in sampled]
        weights = [float(n["weight"]) for n in numbers if "weight" in n]
        if any(weight < 0 for weight in weights):
            yield (
                f"objectives.{name}.weight is {min(weights):g}: where it is below 0, "
                "its loss is raised, not lowered"
            )
        elif weights and not any(weights):
            yield f"objectives.{name}.weight is 0 in every step: it teaches nothing"


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


def _value(tree: Mapping[str, Any], words: Iterable[str]) -> Any:
    """Returns the value at a path of keys, 0 if it is left out."""
    value: Any = tree
    for word in words:
        value = value.get(word, 0)
    return value


def check_vocabulary(text_tower: Any, tokens: int) -> None:
    """Checks that a text tower has a vector for each token.

    Args:
      text_tower: one of another package may have no field `vocab_size`.
      tokens: number of tokens of the tokenizer.

    Raises:
      ClipinError: it has not.
    """
    vocab_size = getattr(text_tower, "vocab_size", tokens)
    if vocab_size < tokens:
        raise ClipinError(
            f"model.text.vocab_size is {vocab_size}, but the tokenizer has {tokens} "
            f"tokens: set it to at least {tokens}"
        )
