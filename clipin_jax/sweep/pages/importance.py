"""How much each key matters for the metric of a sweep."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from clipin_jax.sweep.definition import Sweep
from clipin_jax.sweep.outcomes import Point, ranked
from clipin_jax.sweep.space.axes import Range

_FEWEST = 4  # points; fewer say nothing
_FOR_ANOVA = 20  # points; it compares the best tenth with all


class Importance(NamedTuple):
    """Shares of the keys, from 0 to 1, and how they were computed."""

    shares: dict[str, float]
    method: str


def importance(sweep: Sweep, points: Sequence[Point]) -> Importance | None:
    """Returns the importance of each key; None with too few points.

    By Optuna's PED-ANOVA (Watanabe et al., 2023, arXiv 2304.10255) where it is
    installed and the points are enough, else by ranks: the share of the variance of the
    ranks that a key explains alone, as Spearman's correlation squared for a range and
    as the variance between the values of a list.
    """
    done = ranked(sweep, points)
    if len(done) < _FEWEST or not sweep.space.axes:
        return None
    if len(done) >= _FOR_ANOVA and importlib.util.find_spec("optuna"):
        shares = _anova(sweep, done)
        if any(np.isfinite(list(shares.values()))) and sum(shares.values()) > 0:
            return Importance(shares, "Optuna's PED-ANOVA")
    ranks = stats.rankdata([_loss(sweep, point) for point in done])
    shares = {key: _rank_share(sweep, key, done, ranks) for key in sweep.space.axes}
    return Importance(shares, "the share of the variance of ranks that a key explains")


def _loss(sweep: Sweep, point: Point) -> float:
    value = point.values[0]
    assert value is not None  # `ranked` leaves out others
    return sweep.goals[0].loss(value)


def _rank_share(
    sweep: Sweep, key: str, done: Sequence[Point], ranks: np.ndarray
) -> float:
    total = float(np.var(ranks))
    texts = [point.assignment[key] for point in done]
    if not total or len(set(texts)) < 2:
        return 0.0
    if isinstance(sweep.space.axes[key], Range):
        values = stats.rankdata([float(text) for text in texts])
        return float(np.corrcoef(values, ranks)[0, 1] ** 2)
    groups = [ranks[[text == name for text in texts]] for name in set(texts)]
    between = sum(len(g) * (g.mean() - ranks.mean()) ** 2 for g in groups)
    return float(between / len(ranks) / total)


def _anova(sweep: Sweep, done: Sequence[Point]) -> dict[str, float]:
    import optuna  # an extra

    from clipin_jax.sweep.search.journal import distributions, params_of

    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="minimize")
    axes = distributions(sweep)
    for point in done:
        trial = optuna.trial.create_trial(
            params=params_of(sweep, point.assignment),
            distributions=axes,
            value=_loss(sweep, point),
        )
        study.add_trial(trial)
    return dict(optuna.importance.get_param_importances(study))
