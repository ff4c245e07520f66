"""Evaluators: one file each. They get an encoder, run on a state, and yield scores.

Imports `inference`, `data` and below; `metrics`, `datasets` and `probes` are parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from clipin_jax.data import make_source
from clipin_jax.data.evaluation_batches import check_first
from clipin_jax.data.sources import is_source
from clipin_jax.errors import ClipinError, explained
from clipin_jax.evaluators.base import Evaluator
from clipin_jax.evaluators.captioning import Captioning
from clipin_jax.evaluators.compositionality import Compositionality
from clipin_jax.evaluators.few_shot import FewShot
from clipin_jax.evaluators.fine_tuning import FineTuning
from clipin_jax.evaluators.linear_probe import LinearProbe
from clipin_jax.evaluators.localization import Localization
from clipin_jax.evaluators.nearest_neighbors import NearestNeighbors
from clipin_jax.evaluators.released_probe import ReleasedProbe
from clipin_jax.evaluators.retrieval import Retrieval
from clipin_jax.evaluators.text_probe import TextProbe
from clipin_jax.evaluators.text_similarity import TextSimilarity
from clipin_jax.evaluators.zero_shot import ZeroShot
from clipin_jax.inference.encoder import Encoder
from clipin_jax.registry import check_arguments, construct, find

EVALUATORS: dict[str, Any] = {
    "captioning": Captioning,
    "compositionality": Compositionality,
    "few_shot": FewShot,
    "fine_tuning": FineTuning,
    "linear_probe": LinearProbe,
    "localization": Localization,
    "nearest_neighbors": NearestNeighbors,
    "released_probe": ReleasedProbe,
    "retrieval": Retrieval,
    "text_probe": TextProbe,
    "text_similarity": TextSimilarity,
    "zero_shot": ZeroShot,
}


def make_evaluators(evals: ConfigDict, encoder: Encoder) -> dict[str, Evaluator]:
    """Builds every entry of `config.evals`, by its name.

    Raises:
      ClipinError: a type, an argument or a source that does not exist, with the nearest
        name; data that is missing or damaged; or a part that the model lacks.
    """
    sources: dict[str, Any] = {}
    return {name: _make(name, entry, encoder, sources) for name, entry in evals.items()}


def make_available(
    evals: ConfigDict, encoder: Encoder
) -> tuple[dict[str, Evaluator], dict[str, str]]:
    """Builds every entry of `config.evals` that can be built.

    Returns:
      The evaluators by name; and for each entry whose data is missing or damaged, or
      which needs a part that the model lacks, why it was left out.

    Raises:
      ClipinError: a type or an argument that does not exist.
    """
    evaluators, skipped = {}, {}
    sources: dict[str, Any] = {}
    for name, entry in evals.items():
        read_entry(name, entry)
        try:
            evaluators[name] = _make(name, entry, encoder, sources)
        except ClipinError as error:
            skipped[name] = str(error).removeprefix(f"evals.{name}: ")
    return evaluators, skipped


def read_entry(name: str, entry: ConfigDict) -> tuple[type, dict[str, Any]]:
    """Returns the class of an entry of `config.evals`, and its checked arguments.

    Raises:
      ClipinError: a type or an argument that does not exist, or one that is missing.
    """
    arguments, where = entry.to_dict(), f"evals.{name}"
    _check_counts(arguments, where)
    for key in ("every_steps", "at_start"):  # read by the training loop
        arguments.pop(key, None)
    kind = find(EVALUATORS, arguments.pop("type", name), f"{where}.type")
    lacking = [key for key in ("task", "figures", "run") if not hasattr(kind, key)]
    if lacking:
        raise ClipinError(
            f"{where}.type: {getattr(kind, '__name__', kind)} is no evaluator, it has "
            f"no {', '.join(lacking)}: see clipin_jax.evaluators.base.Evaluator"
        )
    check_arguments(kind, arguments, where, given=1)
    return kind, arguments


def _check_counts(arguments: Mapping[str, Any], where: str) -> None:
    for key, least in dict(batch_size=1, every_steps=0).items():
        value = arguments.get(key, least)
        if type(value) is not int or value < least:
            raise ClipinError(
                f"{where}.{key} is {value!r}; it must be a whole number of at least "
                f"{least}"
            )


def _check_figures(evaluator: Evaluator) -> None:
    with explained(f"the figures of {type(evaluator).__name__}"):
        for figure in evaluator.figures.values():
            figure.format.format(0.5)


def _make(
    name: str, entry: ConfigDict, encoder: Encoder, sources: dict[str, Any]
) -> Evaluator:
    """Builds an entry; `sources` keeps what was built, for entries that share one."""
    kind, arguments = read_entry(name, entry)
    try:
        for key in filter(is_source, arguments):
            description = repr(arguments[key])
            if description not in sources:
                sources[description] = _make_source(key, arguments[key])
            arguments[key] = sources[description]
        evaluator = construct(kind, kind.__name__, encoder, **arguments)
        _check_figures(evaluator)
        return evaluator
    except ClipinError as error:
        raise ClipinError(f"evals.{name}: {error}") from error


def _make_source(key: str, entry: Any) -> Any:
    if not isinstance(entry, Mapping):
        raise ClipinError(f"{key} must be a dict with a name, got {entry!r}")
    source = make_source(**entry)
    if not len(source):
        raise ClipinError(f"{key} is empty: there is nothing to evaluate")
    check_first(source)
    return source
