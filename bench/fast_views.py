"""Compares training on fast views with training on Pillow's views.

    python bench/fast_views.py --data FOLDER --labels category

Trains the quickstart's CLIP on real pairs, twice for each seed: with the library's
scaled decoding and averaging, and with every image decoded at full size and every view
resized by Pillow's antialiased bicubic. Order, crops and captions are the same. The
last line is one JSON object: losses during training, and the last scores.
"""

import argparse
import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from clipin_jax.config import load_config
from clipin_jax.data.image import views
from clipin_jax.data.image.decode import OpenImage, decode
from clipin_jax.runs.loggers.json_lines import read_metrics
from clipin_jax.training.loop import train

VIEWS = ("fast", "pillow")
SCORES = (
    "retrieval/text_to_image_R@1", "retrieval/text_to_image_R@10",
    "zero_shot/accuracy", "linear_probe/accuracy",
)  # fmt: skip


def resize(image: np.ndarray, size: tuple[int, int], _: str) -> np.ndarray:
    """Resizes with Pillow, in place of `views.resize`."""
    how = Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), how))


@contextlib.contextmanager
def use_views(name: str) -> Iterator[None]:
    """Uses fast views or Pillow's views inside the context, in this process."""
    if name == "fast":
        yield
        return
    whole = mock.patch.object(
        OpenImage, "pixels", lambda self, share=1: decode(self.data)
    )
    with whole, mock.patch.object(views, "resize", resize):
        yield


def run(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Trains or resumes a run; returns its losses and the last scores."""
    labels = f",labels={args.labels}" if args.labels else ""
    overrides = [f"seed={seed}", f"total_steps={args.steps}", "data.processes=0"]
    config = load_config(f"quickstart:data={args.data}{labels}", overrides)
    folder = args.workdir / f"{name}_{seed}"
    with use_views(name):
        train(config, folder)
    rows = read_metrics(folder)
    losses = [round(row["train/loss"], 4) for row in rows if "train/loss" in row]
    scores = json.loads((folder / "eval" / f"{args.steps}.json").read_text())["scores"]
    return {"losses": losses} | {key: scores[key] for key in SCORES if key in scores}


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--data", required=True, help="folder of pairs in the COCO captions layout")
    add("--labels", default="", help="key of the classes in its JSON files")
    add("--steps", type=int, default=400, help="of every run")
    add("--seeds", type=int, default=2, help="how many, from 0")
    add("--workdir", type=Path, default=Path("runs/fast_views"), help="of all runs")
    args = parser.parse_args(argv)
    if args.seeds < 2:
        parser.error(
            "--seeds must be at least 2: the distance of two seeds is the reference"
        )
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    results: dict[str, Any] = {}
    for seed in range(args.seeds):
        for name in VIEWS:
            results[f"{name} {seed}"] = run(name, seed, args)
            print(f"{name}, seed {seed}: {json.dumps(results[f'{name} {seed}'])}")
    apart = [
        np.subtract(*(results[f"{name} {seed}"]["losses"] for name in VIEWS))
        for seed in range(args.seeds)
    ]
    seeds = np.subtract(results["fast 0"]["losses"], results["fast 1"]["losses"])
    print(f"losses of fast and Pillow's views: {np.abs(apart).mean():.4f} apart")
    print(f"losses of two seeds: {np.abs(seeds).mean():.4f} apart")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
