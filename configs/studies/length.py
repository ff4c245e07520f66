"""Longer runs: does CLIPin raise what CLIP reaches, or is it only sooner there?

    clipin study length --jobs 2
    clipin study length:looseness=0.4,seeds=2      # one level of looseness

Each length is a run of its own, with a schedule that ends there.
"""

from typing import Any

from clipin_jax.config import (
    METHODS,
    SCENE_METRICS,
    parse_options,
    scenes_changes,
)

LENGTHS = 5  # each twice the one before
METHOD_NAMES = ("CLIP", "CLIP, orthogonal", "CLIPin")
FIRST_SEED = 330  # no search has seen these


def get_study(arg: str | None = None) -> dict:
    """Options: seeds (how many), steps (of the longest runs), looseness."""
    options = parse_options(arg, seeds=5, steps=4800, looseness=0.2)
    lengths = [options.steps // 2**k for k in reversed(range(LENGTHS))]
    return dict(
        name=f"length_{options.looseness:g}",
        title=f"Longer runs, looseness {options.looseness:g}",
        question="Does the gain of CLIPin remain when all train longer?",
        methods={name: METHODS[name] for name in METHOD_NAMES},
        baseline="CLIP, orthogonal",
        dial="steps",
        levels={str(steps): _length(steps, options.looseness) for steps in lengths},
        metrics=SCENE_METRICS,
        seeds=range(FIRST_SEED, FIRST_SEED + options.seeds),
        changes=scenes_changes(looseness=options.looseness),
    )


def _length(steps: int, looseness: float) -> dict[str, Any]:
    """Returns what a length changes; each method keeps its learning rate."""
    changes = scenes_changes(total_steps=steps, looseness=looseness)
    del changes["optim.learning_rate.peak"]
    return changes
