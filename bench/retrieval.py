"""Times ranks of COCO's size: 25,000 captions and 5,000 images, from features.

    python bench/retrieval.py           # within a minute on two cores
    python bench/retrieval.py --images 1000

The library compares a few hundred images with all captions at a time; the plain code
computes the whole matrix. They take turns and must agree. Times are medians. The peak
is that of NumPy's memory besides the features. The last line is one JSON object.
"""

import argparse
import json
import statistics
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from clipin_jax.evaluators.metrics.scores import feature_ranks

MIB = 2**20
CAPTIONS = 5  # per image
Ranks = tuple[np.ndarray, np.ndarray]
RankFunction = Callable[[np.ndarray, np.ndarray, np.ndarray], Ranks]


def plain(image: np.ndarray, text: np.ndarray, owner: np.ndarray) -> Ranks:
    """Returns ranks in both directions from the whole matrix."""
    similarity = image @ text.T
    columns = np.arange(len(owner))
    matching = similarity[owner, columns]
    best = np.full(len(image), -np.inf, np.float32)
    np.maximum.at(best, owner, matching)
    text_ranks = (similarity >= matching).sum(axis=0) - 1
    similarity[owner, columns] = -np.inf
    return (similarity >= best[:, None]).sum(axis=1), text_ranks


def features(images: int, width: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Returns unit vectors of images and captions, and the image of each caption."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(images), CAPTIONS)
    image = rng.standard_normal((images, width), np.float32)
    text = rng.standard_normal((len(owner), width), np.float32) + image[owner] / 8
    return *(x / np.linalg.norm(x, axis=1, keepdims=True) for x in (image, text)), owner


def peak_mib(rank: RankFunction, data: tuple[np.ndarray, ...]) -> float:
    """Returns the peak of NumPy's memory besides the features."""
    tracemalloc.start()
    rank(*data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / MIB


def main() -> None:
    """Prints times, peaks and their ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    data = features(arguments.images, arguments.width)
    functions: dict[str, RankFunction] = {"library": feature_ranks, "plain": plain}
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    ranks: dict[str, Ranks] = {}
    for _ in range(arguments.rounds):
        for name, rank in functions.items():
            start = time.perf_counter()
            ranks[name] = rank(*data)
            seconds[name].append(time.perf_counter() - start)
    # The library counts cosines closer than 1e-6 as ties: a few ranks may be worse.
    for library, exact in zip(ranks["library"], ranks["plain"], strict=True):
        assert np.all(library >= exact) and np.mean(library > exact) < 0.05
    figures = {
        "images": arguments.images,
        "captions": len(data[2]),
        **{f"{n}_seconds": round(statistics.median(s), 3) for n, s in seconds.items()},
        **{f"{n}_peak_mib": round(peak_mib(f, data)) for n, f in functions.items()},
    }
    for name in functions:
        print(
            f"{name:8} {figures[f'{name}_seconds']:8.2f} s"
            f" {figures[f'{name}_peak_mib']:6} MiB"
        )
    figures["plain_over_library_seconds"] = round(
        figures["plain_seconds"] / figures["library_seconds"], 3
    )
    figures["plain_over_library_peak"] = round(
        figures["plain_peak_mib"] / figures["library_peak_mib"], 3
    )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
