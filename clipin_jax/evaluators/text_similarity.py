"""Text similarity: compares cosines of the text tower with human scores."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from clipin_jax.errors import ClipinError, check_choice
from clipin_jax.evaluators.base import Figure
from clipin_jax.evaluators.datasets.text_columns import read_columns
from clipin_jax.evaluators.metrics.correlation import pearson, spearman
from clipin_jax.inference.encode_fns import ModelState
from clipin_jax.inference.encoder import Encoder

FEATURES = ("embedding", "pooled")
DECIMALS = 6  # of a cosine; further ones are rounding errors


class TextSimilarity:
    """Spearman and Pearson correlation of cosines with human scores (STS).

    Nothing is trained. Both are NaN if all cosines are equal or one of them is NaN.
    """

    task = "text_similarity"
    figures = {
        "spearman": Figure("{:.3f}", headline=True),
        "pearson": Figure("{:.3f}", headline=True),
    }
    benchmark_keys = {"spearman": "spearman", "pearson": "pearson"}

    def __init__(
        self,
        encoder: Encoder,
        *,
        file: str,
        columns: Sequence[str] = ("sentence1", "sentence2", "score"),
        feature: str = "embedding",
        batch_size: int = 256,
    ) -> None:
        """Reads the pairs.

        Args:
          encoder: of the model.
          file: .tsv or .csv with a header, see `read_columns`.
          columns: names of the columns of both sentences and of the score.
          feature: "embedding", the joint space of images and texts; or "pooled", the
            text tower's output before any projection.
          batch_size: texts encoded at a time.

        Raises:
          ClipinError: a file that cannot be read, a score that is no number, or scores
            that are all the same.
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
        self._encoder = encoder
        self._feature = feature
        self._batch_size = batch_size

    def run(self, state: ModelState) -> Iterator[tuple[str, float]]:
        """Yields (metric, value); "chance/METRIC" is that of a random guess."""
        features = self._encoder.texts(state, self._texts, self._batch_size)
        cosine = np.round(_cosines(features[self._feature]), DECIMALS)
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
    """Returns the cosine of each pair, [N] float64.

    features: [2 N, D], the first sentences of all pairs, then the second ones.
    """
    features = features.astype(np.float64)
    with np.errstate(invalid="ignore"):  # a vector of zeros has no direction
        features /= np.linalg.norm(features, axis=1, keepdims=True)
    first, second = np.split(features, 2)
    return np.einsum("nd,nd->n", first, second)
