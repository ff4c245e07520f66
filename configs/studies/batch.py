"""Batch sizes: does CLIPin help more where a batch has few negatives?

    clipin study batch --jobs 2
    clipin study batch:seeds=2,steps=100           # a quick look

All runs see as many pairs: a smaller batch takes more steps, at a rate that falls with
the square root of the batch.
"""

from typing import Any

from clipin_jax.config import (
    METHODS,
    SCENE_METRICS,
    parse_options,
    scenes_changes,
)

BATCH_SIZES = (16, 32, 64, 128, 256)
STANDARD, PEAK = 64, 7e-4  # those of the other studies
METHOD_NAMES = ("CLIP", "CLIP, orthogonal", "CLIPin")
FIRST_SEED = 340  # no search has seen these


def get_study(arg: str | None = None) -> dict:
    """Options: seeds (how many), steps (of a batch of 64), looseness."""
    options = parse_options(arg, seeds=5, steps=600, looseness=0.4)

    def sized(batch_size: int) -> dict[str, Any]:
        changes = scenes_changes(
            total_steps=options.steps * STANDARD // batch_size,
            batch_size=batch_size,
            looseness=options.looseness,
        )
        peak = PEAK * (batch_size / STANDARD) ** 0.5
        return changes | {"optim.learning_rate.peak": peak}

    return dict(
        title="Batch sizes",
        question="Does CLIPin help more where a batch has few negatives?",
        methods={name: METHODS[name] for name in METHOD_NAMES},
        baseline="CLIP, orthogonal",
        dial="batch size",
        levels={str(size): sized(size) for size in BATCH_SIZES},
        metrics=SCENE_METRICS,
        seeds=range(FIRST_SEED, FIRST_SEED + options.seeds),
        changes=scenes_changes(looseness=options.looseness),
    )
