"""Redundant captions: which objectives tolerate many images with the same text?

    clipin study redundancy --jobs 2
    clipin study redundancy:seeds=2,steps=100      # a quick look

At redundancy 0.4, four images of ten have one of eight stock sentences as their
caption, as most medical reports state that there is no finding. The scored captions are
always clean.
"""

from clipin_jax.config import (
    METHODS,
    SCENE_METRICS,
    parse_options,
    scenes_changes,
)

LEVELS = (0.0, 0.2, 0.4, 0.6)
FIRST_SEED = 380  # no search has seen these


def get_study(arg: str | None = None) -> dict:
    """Options: seeds (how many), steps."""
    options = parse_options(arg, seeds=5, steps=600)
    return dict(
        title="Redundant captions",
        question="Does CLIPin make training robust to many pictures that share one "
        "text, as medical images share reports?",
        methods=METHODS,
        baseline="CLIP, orthogonal",
        dial="redundancy",
        levels={f"{x:g}": {"data.source.redundancy": x} for x in LEVELS},
        metrics=SCENE_METRICS,
        seeds=range(FIRST_SEED, FIRST_SEED + options.seeds),
        changes=scenes_changes(total_steps=options.steps),
    )
