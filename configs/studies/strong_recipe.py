"""A stronger recipe: does the gain survive once CLIP itself is trained better?

    clipin study strong_recipe --jobs 2
    clipin study strong_recipe:seeds=2,steps=100   # a quick look

The field's doubt (arXiv 2305.08675): what such terms add to a weak CLIP may vanish once
CLIP itself is trained well. The recipes are stronger augmentation, of the kinds that
leave what captions say (no crops: they move things), label smoothing, and twice the
steps, which also cost CLIP about what the plug-in costs. Two captions of ten are loose.
"""

from clipin_jax.config import FAMILY, SCENE_METRICS, on_scenes, parse_arg

AUGMENTED = {
    "data.augment.brightness": 0.4,
    "data.augment.contrast": 0.4,
    "data.augment.blur": 0.3,
    "data.augment.blur_sigma": (0.1, 1.0),
}
SMOOTHED = {"objectives.contrastive.label_smoothing": 0.1}


def get_study(arg: str | None = None) -> dict:
    """Options: seeds (how many), steps, looseness."""
    options = parse_arg(arg, seeds=5, steps=600, looseness=0.2)
    changes, longer = (
        on_scenes(total_steps=steps, looseness=options.looseness)
        for steps in (options.steps, 2 * options.steps)
    )
    return dict(
        title="A stronger recipe",
        question="Does what CLIPin adds survive stronger augmentation, label smoothing "
        "and twice the steps?",
        methods={name: FAMILY[name] for name in ("CLIP", "CLIPin", "CLIPin tuned")},
        baseline="CLIP",
        dial="recipe",
        levels={
            "basic": {},
            "augmentation": AUGMENTED,
            "label smoothing": SMOOTHED,
            "twice the steps": longer,
            "all": longer | AUGMENTED | SMOOTHED,
        },
        metrics=SCENE_METRICS,
        seeds=range(options.seeds),
        changes=changes,
    )
