"""Evaluators by name: each is built once, runs on a state, yields names and values."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from clipin_jax.data import make_source
from clipin_jax.errors import ClipinError, did_you_mean
from clipin_jax.evaluators.base import Evaluator
from clipin_jax.evaluators.captioning import Captioning
from clipin_jax.evaluators.compositionality import Compositionality
from clipin_jax.evaluators.few_shot import FewShot
from clipin_jax.evaluators.fine_tuning import FineTuning
from clipin_jax.evaluators.linear_probe import LinearProbe
from clipin_jax.evaluators.localisation import Localisation
from clipin_jax.evaluators.nearest_neighbours import NearestNeighbours
from clipin_jax.evaluators.released_probe import ReleasedProbe
from clipin_jax.evaluators.retrieval import Retrieval
from clipin_jax.evaluators.text_probe import TextProbe
from clipin_jax.evaluators.text_similarity import TextSimilarity
from clipin_jax.evaluators.zero_shot import ZeroShot
from clipin_jax.inference.encoder import Encoder, make_encoder
from clipin_jax.inference.feature_cache import RememberingEncoder

EVALUATORS = {
    "captioning": Captioning,
    "compositionality": Compositionality,
    "few_shot": FewShot,
    "fine_tuning": FineTuning,
    "linear_probe": LinearProbe,
    "localisation": Localisation,
    "nearest_neighbours": NearestNeighbours,
    "released_probe": ReleasedProbe,
    "retrieval": Retrieval,
    "text_probe": TextProbe,
    "text_similarity": TextSimilarity,
    "zero_shot": ZeroShot,
}
# Arguments that are built from their own dict.
SOURCES = ("source", "train_source", "val_source")


def make_evaluators(
    config: ConfigDict, encode: Any, mesh: Mesh
) -> dict[str, Evaluator]:
    """Builds every entry of `config.evals`, by its name there.

    config: the whole config of a run; encode: the encode functions of its learner.
    Raises ClipinError for a type, an argument or a source that does not exist, with
    the nearest name.
    """
    encoder, sources = make_encoder(config, encode, mesh), {}
    return {
        name: _make(name, encoder, entry, sources)
        for name, entry in config.evals.items()
    }


def make_available(
    config: ConfigDict, encode: Any, mesh: Mesh
) -> tuple[dict[str, Evaluator], dict[str, str]]:
    """As `make_evaluators`, but what cannot be is left out: evaluators, and why not.

    That is an entry whose data is missing or damaged, or which asks for a part that the
    model lacks; a type or an argument that does not exist is an error all the same.
    """
    encoder, sources = make_encoder(config, encode, mesh, RememberingEncoder), {}
    evaluators, skipped = {}, {}
    for name, entry in config.evals.items():
        _check_entry(name, entry)
        try:
            evaluators[name] = _make(name, encoder, entry, sources)
        except ClipinError as error:
            skipped[name] = str(error).removeprefix(f"evals.{name}: ")
    return evaluators, skipped


def _make(
    name: str, encoder: Encoder, entry: ConfigDict, sources: dict[str, Any]
) -> Any:
    """sources: those made before, by what was asked for; many entries share some."""
    kind, arguments = _check_entry(name, entry)
    try:
        for key in SOURCES:
            if key in arguments:
                asked = repr(arguments[key])
                if asked not in sources:
                    sources[asked] = _source(key, arguments[key])
                arguments[key] = sources[asked]
        return kind(encoder, **arguments)
    except ClipinError as error:
        raise ClipinError(f"evals.{name}: {error}") from error


def _check_entry(name: str, entry: ConfigDict) -> tuple[type, dict[str, Any]]:
    """The class of an entry and its arguments, which are known to it."""
    arguments = entry.to_dict()
    arguments.pop("every_steps", None)  # the loop's business
    kind = arguments.pop("type", "")
    if kind not in EVALUATORS:
        raise ClipinError(
            f"evals.{name}.type is {kind!r}: {did_you_mean(kind, EVALUATORS)}"
        )
    _check_arguments(name, EVALUATORS[kind], arguments)
    return EVALUATORS[kind], arguments


def _check_arguments(name: str, kind: type, arguments: Mapping[str, Any]) -> None:
    _, _, *parameters = inspect.signature(kind.__init__).parameters.values()
    known = {p.name: p.default is p.empty for p in parameters}
    for key in arguments:
        if key not in known:
            raise ClipinError(
                f"evals.{name}.{key} does not exist: {did_you_mean(key, known)}"
            )
    if arguments.get("batch_size", 1) < 1:
        raise ClipinError(
            f"evals.{name}.batch_size is {arguments['batch_size']}; it must be at"
            " least 1"
        )
    for key, required in known.items():
        if required and key not in arguments:
            raise ClipinError(f"evals.{name}.{key} is missing: it has no default")


def _source(key: str, entry: Any) -> Any:
    if not isinstance(entry, Mapping):
        raise ClipinError(f"{key} must be a dict with a name, got {entry!r}")
    source = make_source(**entry)
    if not len(source):
        raise ClipinError(f"{key} is empty: there is nothing to evaluate")
    return source


def clip_benchmark_record(
    evaluator: Evaluator,
    values: Mapping[str, float],
    *,
    dataset: str,
    model: str,
    pretrained: str,
) -> dict[str, Any]:
    """One result with the keys of CLIP_benchmark's JSON files.

    values: what `evaluator.run` yielded; dataset, model, pretrained: names to show.
    A figure that is not a number becomes None, which JSON can say.
    """
    metrics = {
        theirs: values[ours] if math.isfinite(values[ours]) else None
        for theirs, ours in getattr(evaluator, "benchmark_keys", {}).items()
        if ours in values
    }
    return {
        "dataset": dataset,
        "model": model,
        "pretrained": pretrained,
        "task": evaluator.task,
        "metrics": metrics,
        "language": "en",
    }
