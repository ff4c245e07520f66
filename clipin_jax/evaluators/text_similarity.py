"""How alike two sentences are: the text tower against people's scores."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from clipin_jax.errors import ClipinError, check_choice
from clipin_jax.evaluators.base import Figure
from clipin_jax.evaluators.datasets.text_columns import read_columns
from clipin_jax.inference.encoder import Encoder

FEATURES = ("embedding", "pooled")
DECIMALS = 6  # of a cosine: beyond them is rounding, and equal ones are ties


class TextSimilarity:
    """Spearman and Pearson correlation of cosines with human scores (STS).

    Nothing is trained. Where all cosines are equal, or one is not a number, so are
    the correlations: not a number.
    """

    task = "text_similarity"
    figures = {
        "spearman": Figure("{:.3f}", headline=True),
        "pearson": Figure("{:.3f}", headline=True),
    }
    benchmark_keys = {"spearman": "spearman", "pearson": "pearson"}

    def __init__(
        self,
        encode: Encoder,
        *,
        file: str,
        columns: Sequence[str] = ("sentence1", "sentence2", "score"),
        feature: str = "embedding",
        batch_size: int = 256,
    ) -> None:
        """Reads the pairs, so that what is wrong with them shows before training.

        file: .tsv or .csv with a header, see `read_columns`; columns: the names of
        both sentences' columns and of the score's; feature: "embedding", where images
        and texts meet, or "pooled", what the text tower says before any projection.
        Raises ClipinError for a file that cannot be used, a score that is no number,
        and scores that are all the same.
        """
        check_choice("feature", feature, FEATURES)
        if len(columns) != 3:
            raise ClipinError(
                "text_similarity: columns must name two sentences and a score, got"
                f" {tuple(columns)}"
            )
        first, second, scores = zip(*read_columns(file, columns), strict=True)
        self._texts = [*first, *second]
        self._scores = np.array([_number(s, n, file) for n, s in enumerate(scores, 1)])
        if np.ptp(self._scores) == 0:
            raise ClipinError(
                f"all scores in {file} are {self._scores[0]:g}: there is nothing to"
                " correlate with"
            )
        self._encode = encode
        self._feature = feature
        self._batch_size = batch_size

    def run(self, state: Any) -> Iterator[tuple[str, float]]:
        """Yields (name, value); `chance/<name>` says what a random guess gets."""
        found = self._encode.texts(state.variables, self._texts, self._batch_size)
        cosine = np.round(_cosines(found[self._feature]), DECIMALS)
        for name, correlation in (("spearman", spearman), ("pearson", pearson)):
            yield name, correlation(cosine, self._scores)
            yield f"chance/{name}", 0.0


def _number(cell: str, row: int, file: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ClipinError(f"{file}, row {row}: the score {cell!r} is no number")
    return value


def _cosines(features: np.ndarray) -> np.ndarray:
    """[2 N, D], first and second sentences, to the cosine of each pair, [N] float64."""
    features = features.astype(np.float64)
    with np.errstate(invalid="ignore"):  # a vector of zeros points nowhere
        features /= np.linalg.norm(features, axis=1, keepdims=True)
    first, second = np.split(features, 2)
    return np.einsum("nd,nd->n", first, second)


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Correlation of two arrays [N]; not a number where one of them is constant."""
    if not np.ptp(x) or not np.ptp(y):
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    return float((x / np.linalg.norm(x)) @ (y / np.linalg.norm(y)))


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Correlation of ranks of two arrays [N]; equal values share their mean rank."""
    if np.isnan(x).any() or np.isnan(y).any():
        return math.nan
    return pearson(rankdata(x), rankdata(y))
