"""A stronger recipe: does the gain remain when CLIP is trained better?

    clipin study strong_recipe --jobs 2
    clipin study strong_recipe:seeds=2,steps=100   # a quick look

Additional terms may help a weak CLIP only (arXiv 2305.08675). The recipes are stronger
augmentation of the kinds that keep captions true (no crops: they move objects), label
smoothing, and twice the steps, which cost CLIP about as much as the plug-in does. Two
captions of ten are loose.
"""

from clipin_jax.config import (
    METHODS,
    SCENE_METRICS,
    parse_options,
    scenes_changes,
)

AUGMENTED = {
    "data.augment.brightness": 0.4,
    "data.augment.contrast": 0.4,
    "data.augment.blur": 0.3,
    "data.augment.blur_sigma": (0.1, 1.0),
}
METHOD_NAMES = ("CLIP", "CLIP, orthogonal", "CLIPin")
FIRST_SEED = 350  # no search has seen these
SMOOTHED = {"objectives.contrastive.label_smoothing": 0.1}


def get_study(arg: str | None = None) -> dict:
    """Options: seeds (how many), steps, looseness."""
    options = parse_options(arg, seeds=5, steps=600, looseness=0.2)
    changes, longer = (
        scenes_changes(total_steps=steps, looseness=options.looseness)
        for steps in (options.steps, 2 * options.steps)
    )
    return dict(
        title="A stronger recipe",
        question="Does what CLIPin adds survive stronger augmentation, label smoothing "
        "and twice the steps?",
        methods={name: METHODS[name] for name in METHOD_NAMES},
        baseline="CLIP, orthogonal",
        dial="recipe",
        levels={
            "basic": {},
            "augmentation": AUGMENTED,
            "label smoothing": SMOOTHED,
            "twice the steps": longer,
            "all": longer | AUGMENTED | SMOOTHED,
        },
        metrics=SCENE_METRICS,
        seeds=range(FIRST_SEED, FIRST_SEED + options.seeds),
        changes=changes,
    )
