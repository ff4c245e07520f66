"""Real images and captions: does CLIPin help a small model trained on them?

    clipin study real_pairs:data=FOLDER --jobs 2
    clipin study real_pairs:data=FOLDER,labels=category,steps=400

The folder has the COCO captions layout. Real captions are loose to an unknown degree,
so the same is trained with a share of them exchanged for those of other images.
"""

from typing import Any

from clipin_jax.config import parse_options
from clipin_jax.errors import ClipinError

SHARES = (0.0, 0.3)  # of exchanged captions
START = {"model.projection_init": "orthogonal"}
STEP_RATIO = 1.9  # time of a step of CLIPin over one of CLIP here
FIRST_SEED = 370  # no search has seen these


def get_study(arg: str | None = None) -> dict:
    """Options: data (a folder of pairs), labels (name of its classes), host (with its
    options, such as `clip_zh:vocabulary=FILE` for Chinese captions), captions (name of
    their files, with {split}), seeds (how many), steps, peak (learning rate).
    """
    options = parse_options(
        arg, data="", labels="", host="clip:small", captions="captions_{split}.json",
        seeds=3, steps=600, peak=1e-3,
    )  # fmt: skip
    if not options.data:
        raise ClipinError("give a folder of pairs: real_pairs:data=FOLDER")
    labels = f",labels={options.labels}" if options.labels else ""
    joined = "," if ":" in options.host else ":"
    spec = f"{options.host}{joined}data={options.data!r}{labels}"
    longer = _changes(options, round(options.steps * STEP_RATIO))
    return dict(
        title="Real images and captions",
        question="Does CLIPin help a small model that is trained on real pairs, and on "
        "pairs of which a share is mismatched?",
        methods={
            "CLIP": dict(config=spec),
            "CLIP, orthogonal": dict(config=spec, changes=START),
            "CLIP, orthogonal, equal time": dict(
                config=spec, changes=longer | START, note=f"{STEP_RATIO:g} x the steps"
            ),
            "CLIPin": dict(config=f"{spec},clipin"),
            "CLIPin released": dict(config=f"{spec},clipin=released"),
        },
        baseline="CLIP, orthogonal",
        dial="mismatched",
        levels={f"{share:g}": _mismatched(options, share) for share in SHARES},
        metrics=_metrics(options.labels),
        seeds=range(FIRST_SEED, FIRST_SEED + options.seeds),
        changes=_changes(options, options.steps),
    )


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
    return evals | {
        "batch_size": 64,
        "total_steps": steps,
        "log_every_steps": max(steps // 20, 1),
        "health_every_steps": max(steps // 4, 1),
        "log.tensorboard": False,
        "checkpoint.every_steps": steps,
        "checkpoint.keep_last": 1,
        "optim.learning_rate.peak": options.peak,
        "optim.learning_rate.warmup_steps": max(steps // 10, 1),
        "data.threads": 1,
    }
