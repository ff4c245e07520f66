"""Times the linear probe and scikit-learn: a fit to equal loss, and the sweep.

    OPENBLAS_NUM_THREADS=1 taskset -c 0 python bench/linear_probe.py --data FOLDER

Features are those of a random layer on images, or random ones. The spectrum of random
features falls like that of a network ("falling"), or is flat, the easiest case for any
solver ("flat"). Both solvers take turns on the same data, in float32, the dtype of
features, and in float64, to which scikit-learn converts most inputs. scikit-learn's
tolerance is the loosest power of ten with a loss at most a thousandth above the
library's, so that both are equally precise. `loss_ratio` is the library's loss over
scikit-learn's.

A sweep is the cost of an evaluation: the strength is chosen on a fifth of the data, and
one more fit uses all. The library searches coarse to fine; scikit-learn's sweep is a
loop over CLIP's 96 strengths, or `--sweep` of them, from strong to weak, with
`warm_start=True` and its default tolerance. `val_loss` is the loss on the held-out
fifth at the chosen strength.

Times are processor times, which other work on the machine hardly affects, with the same
number of threads for both. The last line is one JSON object.
"""

import argparse
import itertools
import json
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_limits

from clipin_jax.data import make_source
from clipin_jax.data.image.decode import decode
from clipin_jax.data.image.views import evaluation_view
from clipin_jax.evaluators.probes.logistic_regression import (
    ONE_LABEL,
    LinearClassifier,
    fit,
    holdout,
)
from clipin_jax.evaluators.probes.strength_search import (
    COARSE,
    TOLERANCE,
    StrengthSearch,
)

TOLERANCES = (1e-3, 1e-4, 1e-5, 1e-6)
MARGIN = 1e-3


def random_features(samples: int, width: int, classes: int, power: float):
    """Returns normal classes with axes of lengths 1 / rank ** power, and labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(classes, size=samples)
    centres = rng.normal(size=(classes, width)) * 0.6
    x = centres[labels] + rng.normal(size=(samples, width))
    x = x * np.arange(1, width + 1) ** -power
    return x @ np.linalg.qr(rng.normal(size=(width, width)))[0], labels


def image_features(folder: Path, samples: int, width: int):
    """Returns a random layer on the training images of an image folder, and labels."""
    source = make_source(name="image_folder", folder=str(folder), split="train")
    records = [source[i] for i in range(min(samples, len(source)))]
    images = [evaluation_view(decode(r["image"]), (32, 32)) for r in records]
    x = np.array(images).reshape(len(images), -1) / 255.0
    rng = np.random.default_rng(0)
    x = (x - x.mean(axis=0)) @ rng.normal(size=(x.shape[1], width)) / 30
    labels = np.array([r.get("label") for r in records])
    return np.maximum(x + rng.normal(size=width), 0), labels


def loss(
    probe: LinearClassifier, features: np.ndarray, members: np.ndarray, strength: float
) -> float:
    """Returns the objective, in float64."""
    data = ONE_LABEL.loss(probe.logits(features.astype(np.float64)), members)
    return data + strength / 2 * (probe.weight.astype(np.float64) ** 2).sum()


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    done = work()
    return time.process_time() - start, done


def compare(features, labels, strength: float, turns: int) -> dict[str, float]:
    """Returns times and losses of both solvers on one problem."""
    members = np.eye(labels.max() + 1)[labels]

    def library() -> LinearClassifier:
        return fit(features, members, ONE_LABEL, strength=strength, tolerance=TOLERANCE)

    def sklearn(tolerance: float) -> LinearClassifier:
        model = LogisticRegression(
            C=1 / (len(labels) * strength), tol=tolerance, max_iter=10000
        ).fit(features, labels)
        return LinearClassifier(model.coef_.T, model.intercept_)

    goal = loss(library(), features, members, strength) * (1 + MARGIN)
    for tolerance in TOLERANCES:
        reached = loss(sklearn(tolerance), features, members, strength)
        if reached <= goal:
            break
    pairs = [
        (seconds(library), seconds(lambda: sklearn(tolerance))) for _ in range(turns)
    ]
    (_, probe), (_, reference) = pairs[-1]
    logits = [classifier.logits(features) for classifier in (probe, reference)]
    agree = logits[0].argmax(1) == logits[1].argmax(1)
    return {
        "library_s": round(statistics.median(a for (a, _), _ in pairs), 3),
        "sklearn_s": round(statistics.median(b for _, (b, _) in pairs), 3),
        "ratio": round(statistics.median(b / a for (a, _), (b, _) in pairs), 2),
        "loss_ratio": round(float(goal / (1 + MARGIN) / reached), 6),
        "same_predictions": round(float(agree.mean()), 4),
    }


def sweep(features, labels, number: int) -> dict[str, float]:
    """Returns times and losses of both searches for a strength and a last fit."""
    members = np.eye(labels.max() + 1)[labels]
    held, count = holdout(members, 5, seed=0), len(labels)
    held_out = features[held], members[held]
    strengths = np.geomspace(COARSE[-1], COARSE[0], number) / count

    def library() -> float:
        train = features[~held], members[~held]
        search = StrengthSearch(ONE_LABEL, train, held_out, 1000)
        strength, start = search.best((), count)
        search.fit(features, members, strength, start)
        return ONE_LABEL.loss(start.logits(held_out[0]), held_out[1])

    def sklearn() -> float:
        model, losses = LogisticRegression(warm_start=True, max_iter=1000), {}
        for strength in strengths:
            model.C = 1 / ((~held).sum() * strength)
            model.fit(features[~held], labels[~held])
            losses[strength] = log_loss(labels[held], model.predict_proba(held_out[0]))
        best = min(losses, key=lambda strength: losses[strength])
        model.C = 1 / (count * best)
        model.fit(features, labels)
        return losses[best]

    (library_s, library_loss), (sklearn_s, sklearn_loss) = map(
        seconds, (library, sklearn)
    )
    return {
        "library_s": round(library_s, 2),
        "sklearn_s": round(sklearn_s, 2),
        "ratio": round(sklearn_s / library_s, 2),
        "library_val_loss": round(library_loss, 5),
        "sklearn_val_loss": round(sklearn_loss, 5),
    }


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--data", type=Path, help="an image folder with a split named train")
    add("--samples", type=int, default=5000, help="rows of features")
    add("--width", type=int, default=768, help="columns of features")
    add("--strengths", type=float, nargs="+", default=[1e-3, 1e-2], help="penalties")
    add("--threads", type=int, nargs="+", default=[1], help="of both solvers")
    add("--sweep", type=int, default=96, help="strengths of their sweep; 0: no sweeps")
    add("--turns", type=int, default=3, help="of each solver")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    warnings.filterwarnings("ignore", category=FutureWarning)
    size = args.samples, args.width
    problems = {
        "falling, 10 classes": random_features(*size, 10, 1.0),
        "falling, 100 classes": random_features(*size, 100, 1.0),
        "flat, 10 classes": random_features(*size, 10, 0.0),
    }
    if args.data:
        problems[f"images, {args.data.name}"] = image_features(args.data, *size)
    results = {}
    for name, dtype, threads in itertools.product(
        problems, ("float32", "float64"), args.threads
    ):
        x, labels = problems[name]
        x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-6)
        given, key = x.astype(dtype), f"{name}, {dtype}, {threads} threads"
        with threadpool_limits(threads):
            for s in args.strengths:
                figures = compare(given, labels, s, args.turns)
                results[f"{key}, {s:g}"] = figures
                print(f"{key}, {s:g}: {figures}", flush=True)
            if args.sweep:
                results[f"{key}, sweep"] = figures = sweep(given, labels, args.sweep)
                print(f"{key}, sweep: {figures}", flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
