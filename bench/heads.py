"""Follows the layers between towers and losses through a run, for several starts.

    python bench/heads.py train      # two minutes of a core for each method
    python bench/heads.py plot       # docs/heads.svg, from docs/heads.json

The runs are those of the study `looseness`, at looseness 0.4. What is measured, on 512
held-out scenes: the singular values of the map from tower to joint space, which is a
matrix, or the product of two; its change; the effective rank (Roy and Vetterli, 2007)
of that map, of pooled features and of embeddings; the distance of pairs; recall.
"""

import argparse
import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from clipin_jax.config import METHODS, load_config, scenes_changes
from clipin_jax.core import sharding
from clipin_jax.data.pipeline import TrainBatches
from clipin_jax.objectives.health import alignment, effective_rank
from clipin_jax.runs.build import Experiment, build_experiment
from clipin_jax.runs.train_program import jit_train_step

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = DOCS / "heads.json"
STEPS, EVERY, SEED, HELD_OUT = 600, 50, 300, 512
TWO_LAYERS = {"model.pre_projector": 128}
CLIPIN, RATE = METHODS["CLIPin"]["config"], METHODS["CLIPin"]["changes"]
PREDICTOR = "objectives.clipin.predictor"
ORTHOGONAL = METHODS["CLIP, orthogonal"]["changes"]
ARMS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "CLIP": ("clip:small", {}),
    "CLIP, orthogonal": ("clip:small", ORTHOGONAL),
    "pre-projector": ("clip:small", TWO_LAYERS),
    "pre-projector, orthogonal": ("clip:small", TWO_LAYERS | ORTHOGONAL),
    "CLIPin released": (METHODS["CLIPin released"]["config"], {}),
    "CLIPin": (CLIPIN, RATE),
    "CLIPin, released predictors": (CLIPIN, RATE | {PREDICTOR: "mlp"}),
    "CLIPin, no predictors": (CLIPIN, RATE | {PREDICTOR: "none"}),
}

# A colour for each kind; broken where the start or the predictor is another.
LOOKS = {
    "CLIP": "C0:",
    "CLIP, orthogonal": "C0-",
    "pre-projector": "C2:",
    "pre-projector, orthogonal": "C2-",
    "CLIPin released": "C3:",
    "CLIPin": "C3-",
    "CLIPin, released predictors": "C3--",
    "CLIPin, no predictors": "C3-.",
}


def follow(spec: str, changes: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Trains a method and yields what is measured, before the first step too."""
    scenes = scenes_changes(total_steps=STEPS, looseness=0.4)
    config = load_config(spec, changes=scenes | dict(changes) | {"seed": SEED})
    experiment = build_experiment(config, jax.devices()[:1])
    view = held_out_view(config)
    batches = TrainBatches(config.data, seed=SEED, batch_size=config.batch_size)
    train_step = jit_train_step(experiment)
    with jax.set_mesh(experiment.mesh):
        state, before = experiment.init_state(), None
        for step in range(STEPS + 1):
            if step % EVERY == 0:
                maps = joint_maps(state.params["towers"])
                yield {"step": step} | measure(experiment, state, view, maps, before)
                before = maps
            views = {k: v for k, v in next(batches).items() if k.startswith("view")}
            batch = sharding.put(views, experiment.mesh)
            state, _ = train_step(state, batch, experiment.hyper(step))
    batches.close()


def held_out_view(config: Any) -> dict[str, Any]:
    """Returns one view of scenes that are not trained on, with their own captions."""
    data = config.data.copy_and_resolve_references()
    data.source.update(split="test", length=HELD_OUT, looseness=0.0)
    batches = TrainBatches(data, seed=0, batch_size=HELD_OUT)
    view = next(batches)["view1"]
    batches.close()
    return view


def joint_maps(towers: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns per modality the matrix from pooled features to the joint space."""
    maps = {}
    for modality in ("image", "text"):
        names = (f"{modality}_pre_projector", f"{modality}_projection")
        kernels = [np.asarray(towers[n]["kernel"]) for n in names if n in towers]
        maps[modality] = np.linalg.multi_dot(kernels) if kernels[1:] else kernels[0]
    return maps


def measure(
    experiment: Experiment,
    state: Any,
    view: Mapping[str, Any],
    maps: Mapping[str, np.ndarray],
    before: Mapping[str, np.ndarray] | None,
) -> dict[str, Any]:
    """Returns the figures of one state; `before` are the maps of the last one."""
    features = _encode(experiment.learner)(state.variables, view)
    image, text = (features[m]["embedding"] for m in ("image", "text"))
    figures: dict[str, Any] = {"alignment": float(alignment(image, text))}
    ranks = (np.asarray(image @ text.T) >= np.diag(image @ text.T)[:, None]).sum(1)
    figures["image_to_text_R@1"] = float(np.mean(ranks == 1))
    for modality, matrix in maps.items():
        values = np.linalg.svd(matrix, compute_uv=False)
        pooled = features[modality]["pooled"]
        unit = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        figures[modality] = {
            "singular_values": [float(f"{x:.4g}") for x in values],
            "map_rank": map_rank(values),
            "pooled_rank": float(effective_rank(unit)) * pooled.shape[1],
            "embedding_rank": float(effective_rank(features[modality]["embedding"]))
            * image.shape[1],
        }
        if before is not None:
            change = np.linalg.norm(matrix - before[modality]) / EVERY
            figures[modality]["change"] = float(change / np.linalg.norm(matrix))
    return figures


@functools.cache
def _encode(learner: Any) -> Any:
    return jax.jit(
        lambda variables, view: learner.apply(variables, view, method="encode")
    )


def map_rank(values: np.ndarray) -> float:
    """Returns exp(entropy of the squared singular values)."""
    share = np.square(values) / np.square(values).sum()
    return float(np.exp(-np.sum(share * np.log(share))))


def train() -> None:
    """Trains the methods that have no figures yet, and writes theirs."""
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for name, (spec, changes) in ARMS.items():
        if name in results:
            continue
        results[name] = list(follow(spec, changes))
        last = results[name][-1]
        shown = {key: last[key] for key in ("alignment", "image_to_text_R@1")}
        print(json.dumps({name: shown}), flush=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def plot() -> None:
    """Writes the figure."""
    from matplotlib import pyplot  # pyright: ignore[reportMissingImports]

    pyplot.rcParams |= {"svg.hashsalt": "heads", "svg.fonttype": "none"}
    results = json.loads(RESULTS.read_text())
    figure, axes = pyplot.subplots(2, 3, figsize=(11, 6.6), layout="constrained")
    first, last, rank, embedded, aligned, recall = axes.flat
    for name, rows in results.items():
        steps = [row["step"] for row in rows]
        look = LOOKS[name]
        first.semilogy(rows[0]["image"]["singular_values"], look, label=name)
        last.semilogy(rows[-1]["image"]["singular_values"], look)
        rank.plot(steps, [row["image"]["map_rank"] for row in rows], look)
        embedded.plot(steps, [row["image"]["embedding_rank"] for row in rows], look)
        aligned.plot(steps, [row["alignment"] for row in rows], look)
        recall.plot(steps, [100 * row["image_to_text_R@1"] for row in rows], look)
    titles = {
        first: "image map, before the first step",
        last: f"image map, after {STEPS} steps",
        rank: "effective rank of the image map, of 64",
        embedded: "effective rank of image embeddings, of 64",
        aligned: "mean squared distance of pairs",
        recall: f"image to text R@1 of {HELD_OUT}, %",
    }
    for axis, title in titles.items():
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("singular value" if axis in (first, last) else "step")
        axis.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    figure.savefig(DOCS / "heads.svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description="Follows heads through runs.")
    parser.add_argument("what", choices=["train", "plot"])
    args = parser.parse_args()
    {"train": train, "plot": plot}[args.what]()


if __name__ == "__main__":
    main()
