"""Correlations of two arrays."""

from __future__ import annotations

import math

import numpy as np


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Returns the correlation of two arrays [N]; NaN if one of them is constant."""
    if not np.ptp(x) or not np.ptp(y):
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    return float((x / np.linalg.norm(x)) @ (y / np.linalg.norm(y)))


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Returns the correlation of the ranks of two arrays [N]; NaN if a value is NaN.

    Equal values share their mean rank.
    """
    from scipy.stats import rankdata  # here: it takes half a second to import

    if np.isnan(x).any() or np.isnan(y).any():
        return math.nan
    return pearson(rankdata(x), rankdata(y))
