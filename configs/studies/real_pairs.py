"""Real images and captions: does CLIPin help a small model trained on them?

    clipin study real_pairs:data=FOLDER --jobs 2
    clipin study real_pairs:data=FOLDER,labels=category,steps=400
    clipin study real_pairs:data=OTHER_FOLDER,tuning,seeds=2    # the rates, elsewhere

The folder has the COCO captions layout. Real captions are loose to an unknown degree,
so the same is trained with a share of them exchanged for those of other images.
"""

import re
from pathlib import Path
from typing import Any

from clipin_jax.config import SMALL_TOWERS, parse_options, short_run
from clipin_jax.errors import ClipinError

SHARES = (0.0, 0.3)  # of exchanged captions
START = {"model.projection_init": "orthogonal"}
BASELINE = "CLIP, orthogonal"
STEP_RATIO = 1.9  # time of a step of CLIPin over one of CLIP here
FIRST_SEED, TUNING_SEED = 370, 56  # no search has seen the first ones
PEAK = "optim.learning_rate.peak"
TRIED = (5e-4, 1e-3, 2e-3)
# Settings of CLIPin that the search compares with the recommended one.
SETTINGS: dict[str, dict[str, Any]] = {
    "no predictors": {"objectives.clipin.predictor": "none"},
    "released predictors": {"objectives.clipin.predictor": "mlp"},
    "intra only": {"objectives.clipin.terms": ("intra",)},
    "decay 0.996": {"target.decay": 0.996},
}


def get_study(arg: str | None = None) -> dict:
    """Options: data (a folder of pairs), labels (name of its classes), host (with its
    options, such as `clip_zh:vocabulary=FILE` for Chinese captions), captions (name of
    their files, with {split}), seeds (how many), steps, peak (learning rate),
    clipin_peak (that of CLIPin), tuning.
    """
    options = parse_options(
        arg, data="", labels="", host="clip:small", captions="captions_{split}.json",
        seeds=3, steps=400, peak=1e-3, clipin_peak=2e-3, tuning=False,
    )  # fmt: skip
    if not options.data:
        raise ClipinError("give a folder of pairs: real_pairs:data=FOLDER")
    labels = f",labels={options.labels}" if options.labels else ""
    joined = "," if ":" in options.host else ":"
    spec = f"{options.host}{joined}data={options.data!r}{labels}"
    first = TUNING_SEED if options.tuning else FIRST_SEED
    return dict(
        name=_name(options),
        title="Real images and captions",
        question="Does CLIPin help a small model that is trained on real pairs, and on "
        "pairs of which a share is mismatched?",
        methods=_tried(spec) if options.tuning else _methods(spec, options),
        baseline=f"{BASELINE}, {TRIED[0]:g}" if options.tuning else BASELINE,
        dial="mismatched",
        levels={f"{share:g}": _mismatched(options, share) for share in SHARES},
        metrics=_metrics(options.labels),
        seeds=range(first, first + options.seeds),
        changes=_changes(options, options.steps),
    )


def _name(options: Any) -> str:
    """Returns a name for each set of pairs, so that their results lie side by side."""
    host = options.host.partition(":")[0]
    parts = ["real_pairs", Path(options.data).name]
    parts += [host] * (host != "clip") + ["tuning"] * options.tuning
    return "_".join(re.sub(r"[^\w.+-]+", "_", part) for part in parts)


def _methods(spec: str, options: Any) -> dict[str, dict[str, Any]]:
    longer = _changes(options, round(options.steps * STEP_RATIO))
    return {
        "CLIP": dict(config=spec),
        BASELINE: dict(config=spec, changes=START),
        f"{BASELINE}, equal time": dict(
            config=spec, changes=longer | START, note=f"{STEP_RATIO:g} x the steps"
        ),
        "CLIPin": dict(config=f"{spec},clipin", changes={PEAK: options.clipin_peak}),
        "CLIPin released": dict(config=f"{spec},clipin=released"),
    }


def _tried(spec: str) -> dict[str, dict[str, Any]]:
    """Returns what a search has instead: rates of both, and settings of CLIPin."""
    plugged = f"{spec},clipin"
    rates = {
        f"{name}, {rate:g}": dict(config=config, changes=changes | {PEAK: rate})
        for name, config, changes in ((BASELINE, spec, START), ("CLIPin", plugged, {}))
        for rate in TRIED
    }
    return rates | {
        f"CLIPin, {name}": dict(config=plugged, changes=changes)
        for name, changes in SETTINGS.items()
    }


def _mismatched(options: Any, share: float) -> dict[str, Any]:
    pairs = dict(
        name="coco", folder=options.data, split="train", captions=options.captions
    )
    return {"data.source": dict(name="mismatched", source=pairs, share=share)}


def _metrics(labels: str) -> dict[str, str]:
    metrics = {
        "retrieval/mean_recall": "mean recall",
        "retrieval/text_to_image_R@1": "text to image R@1",
        "retrieval/image_to_text_R@1": "image to text R@1",
    }
    classes = {
        "zero_shot/accuracy": "zero-shot accuracy",
        "linear_probe/accuracy": "linear probe",
    }
    return metrics | (classes if labels else {})


def _changes(options: Any, steps: int) -> dict[str, Any]:
    evals = {"evals.retrieval.every_steps": steps}
    evals["evals.retrieval.source.captions"] = options.captions
    if options.labels:
        evals["evals.zero_shot.every_steps"] = steps
    return (
        evals
        | SMALL_TOWERS
        | short_run(total_steps=steps, batch_size=64, peak=options.peak)
    )
