"""A stronger recipe: does the gain survive augmentation and label smoothing?

    clipin study strong_recipe --jobs 2
    clipin study strong_recipe:seeds=2,steps=100   # a quick look

The field's doubt (arXiv 2305.08675): what such terms add to a weak CLIP may vanish once
CLIP itself is trained well. Two captions of ten are loose.
"""

from clipin_jax.config import FAMILY, SCENE_METRICS, on_scenes, parse_arg

AUGMENTED = {
    "data.augment.crop_scale": (0.6, 1.0),
    "data.augment.crop_ratio": (0.75, 1.3333),
    "data.augment.brightness": 0.4,
    "data.augment.contrast": 0.4,
    "data.augment.blur": 0.3,
    "data.augment.blur_sigma": (0.1, 1.0),
}
SMOOTHED = {"objectives.contrastive.label_smoothing": 0.1}


def get_study(arg: str | None = None) -> dict:
    """Options: seeds (how many), steps, looseness."""
    options = parse_arg(arg, seeds=5, steps=600, looseness=0.2)
    return dict(
        title="A stronger recipe",
        question="Does what CLIPin adds survive stronger augmentation and label "
        "smoothing, which help CLIP itself?",
        methods={name: FAMILY[name] for name in ("CLIP", "CLIPin", "CLIPin tuned")},
        baseline="CLIP",
        dial="recipe",
        levels={
            "basic": {},
            "augmentation": AUGMENTED,
            "label smoothing": SMOOTHED,
            "both": AUGMENTED | SMOOTHED,
        },
        metrics=SCENE_METRICS,
        seeds=range(options.seeds),
        changes=on_scenes(total_steps=options.steps, looseness=options.looseness),
    )
