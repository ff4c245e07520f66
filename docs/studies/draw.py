"""Draws the first metric of studies over their dial, from their results.

    python docs/studies/draw.py looseness terms    # NAME.json here to NAME.svg here

Left the means over the seeds, right the differences of the compared pairs, both with
their 95 % intervals. It needs the extra `bench`.
"""

import sys
from pathlib import Path

import numpy as np

from clipin_jax.study.results import Metric, StudyResults
from clipin_jax.study.results_json import parse_results, read_results
from clipin_jax.study.statistics import comparisons, mean_over_seeds

HERE = Path(__file__).parent
DASHES = ("-", "--", "-.", ":")  # of pairs, in the colour of their method
APART = 0.05  # levels: the methods at a level lie side by side


def draw(name: str) -> Path:
    """Writes the figure of a study and returns its path."""
    from matplotlib import pyplot  # pyright: ignore[reportMissingImports]

    pyplot.rcParams |= {"svg.hashsalt": name, "svg.fonttype": "none"}
    results = parse_results(read_results(HERE / f"{name}.json"))
    metric = results.metrics[0]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 5), layout="constrained")
    colors = {method: f"C{i}" for i, method in enumerate(results.methods)}
    for i, (method, points) in enumerate(_means(results, metric).items()):
        _line(left, i, points, label=method, color=colors[method])
    differences = _differences(results, metric)
    for i, ((method, other), points) in enumerate(differences.items()):
        look = dict(color=colors[method], linestyle=DASHES[i % len(DASHES)])
        _line(right, i, points, label=f"{method} against {other}", **look)
    right.axhline(0, color="grey", linewidth=1)
    left.set_ylabel(metric.title)
    right.set_ylabel(f"difference in {metric.label}, points")
    for axis in (left, right):
        axis.set_xticks(range(len(results.levels)), results.levels)
        axis.set_xlabel(results.dial)
        axis.grid(alpha=0.3)
        axis.legend(
            fontsize=9, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14)
        )
    path = HERE / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    return path


def _means(results: StudyResults, metric: Metric) -> dict[str, np.ndarray]:
    """Returns mean, low and high at each level, [levels, 3], of each method."""
    return {
        method: metric.scale
        * np.array(
            [
                mean_over_seeds(results, metric, method, level)[:3]
                for level in results.levels
            ]
        )
        for method in results.methods
    }


def _differences(
    results: StudyResults, metric: Metric
) -> dict[tuple[str, str], np.ndarray]:
    """Returns mean, low and high at each level, [levels, 3], of each pair."""
    pairs: dict[tuple[str, str], list[list[float]]] = {}
    for compared in comparisons(results, metric):
        test = compared.test
        points = pairs.setdefault((compared.method, compared.baseline), [])
        points.append([metric.scale * x for x in (test.mean, test.low, test.high)])
    return {pair: np.array(points) for pair, points in pairs.items()}


def _line(axis, number: int, points: np.ndarray, **look) -> None:
    mean, low, high = points.T
    places = np.arange(len(mean)) + APART * number
    axis.errorbar(places, mean, [mean - low, high - mean], capsize=2, **look)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(draw(name))
