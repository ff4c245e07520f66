"""What studies share: runs of about a minute, their scores, the methods to compare.

Study files import it from `clipin_jax.config`.
"""

from typing import Any

from clipin_jax.config.recipes import SCENE_TEMPLATES

# Score of the runs to its label, the deciding one first.
SCENE_METRICS = {
    "retrieval/mean_recall": "mean recall",
    "retrieval/text_to_image_R@1": "text to image R@1",
    "retrieval/image_to_text_R@1": "image to text R@1",
    "shape/accuracy": "zero-shot shape",
    "color/accuracy": "zero-shot colour",
    "linear_probe/accuracy": "linear probe, shape",
}
# Sizes of both towers that one CPU trains for 600 steps of 64 pairs within a minute.
SMALL_TOWERS = {
    f"model.{tower}.{key}": value
    for tower in ("image", "text")
    for key, value in dict(width=64, depth=2, num_heads=4).items()
}
START = {"model.projection_init": "orthogonal"}
PEAK = "optim.learning_rate.peak"
# What most studies compare, each at the rate that `tuning` and `hosts:tuning` chose:
# that of `scenes_changes` for CLIP.
METHODS = {
    "CLIP": dict(config="clip:small"),
    "CLIP, orthogonal": dict(
        config="clip:small", changes=START, note="the start of CLIPin"
    ),
    "nCLIP": dict(
        config="nclip:small",
        changes=START | {PEAK: 5e-4},
        note="clusters in place of contrast",
    ),
    "xCLIP": dict(
        config="xclip:small",
        changes=START | {PEAK: 5e-4},
        note="contrast and clusters",
    ),
    "CLIPin": dict(
        config="clip:small,clipin",
        changes={PEAK: 1e-3},
        note="CLIP with the plug-in, at its own rate",
    ),
    "CLIPin released": dict(
        config="clip:small,clipin=released",
        changes={PEAK: 5e-4},
        note="as published",
    ),
}


def scenes_changes(
    *,
    total_steps: int = 600,
    batch_size: int = 64,
    pixels: int = 32,
    looseness: float = 0.0,
    redundancy: float = 0.0,
    scoring: str = "test",
) -> dict[str, Any]:
    """Returns changes that train the `small` variant of a host on the embedded scenes.

    Args:
      total_steps: updates.
      batch_size: pairs a step.
      pixels: side of the images.
      looseness: of the training captions; those that are scored are always clean.
      redundancy: likewise.
      scoring: split of the scored scenes; "val" where settings are chosen.
    """
    return short_run(total_steps=total_steps, batch_size=batch_size, peak=7e-4) | {
        "model.image.image_size": (pixels, pixels),
        **SMALL_TOWERS,
        "model.text.context_length": 16,
        "model.text.vocab_size": 256,
        "data.tokenizer": dict(name="wordpiece", vocabulary="", extra_tokens=()),
        "data.source": _scenes(
            "train", length=50_000, looseness=looseness, redundancy=redundancy
        ),
        "data.augment.crop_scale": (0.95, 1.0),
        "data.augment.crop_ratio": (1.0, 1.0),
        "data.augment.flip": 0.0,  # captions name left and right
        "data.augment.transforms": {},  # captions name places and colours
        "data.augment.jitter_probability": 0.8,
        "data.augment.brightness": 0.1,
        "data.augment.contrast": 0.1,
        "data.augment.saturation": 0.0,
        "data.augment.grayscale": 0.0,
        "data.augment.interpolation": "bilinear",
        "evals": _evals(scoring, every_steps=max(total_steps // 4, 1)),
    }


def short_run(*, total_steps: int, batch_size: int, peak: float) -> dict[str, Any]:
    """Returns changes that make a run short: one of many, with one CPU each.

    Args:
      total_steps: updates.
      batch_size: pairs a step.
      peak: learning rate, after a warm-up over a tenth of the steps.
    """
    quarter = max(total_steps // 4, 1)
    return {
        "batch_size": batch_size,
        "total_steps": total_steps,
        "log_every_steps": max(total_steps // 20, 1),
        "health_every_steps": quarter,
        "log.tensorboard": False,
        "checkpoint.every_steps": quarter,
        "checkpoint.keep_last": 1,
        "optim.learning_rate.warmup_steps": max(total_steps // 10, 1),
        "optim.learning_rate.peak": peak,
        "data.threads": 1,
    }


def _scenes(split: str, length: int, **more: Any) -> dict[str, Any]:
    return dict(
        name="scenes", split=split, length=length, size=40, objects=(1, 1), **more
    )


def _evals(split: str, every_steps: int) -> dict[str, Any]:
    evals: dict[str, Any] = dict(
        retrieval=dict(
            type="retrieval",
            every_steps=every_steps,
            source=_scenes(split, length=512, captions=1),
            batch_size=256,
            rerank=0,
        )
    )
    for label, templates in SCENE_TEMPLATES.items():
        evals[label] = dict(
            type="zero_shot",
            every_steps=0,
            source=_scenes(split, length=1024, labels=label),
            batch_size=256,
            templates=templates,
        )
    evals["linear_probe"] = dict(
        type="linear_probe",
        every_steps=0,
        source=_scenes(split, length=1024, labels="shape"),
        train_source=_scenes("train", length=1024, labels="shape"),
        batch_size=256,
    )
    return evals
