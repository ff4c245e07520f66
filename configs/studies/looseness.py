"""Loosely aligned captions: which objectives tolerate captions of other images?

    clipin study looseness --jobs 2
    clipin study looseness:seeds=2,steps=100       # a quick look

At looseness 0.4, two captions of ten belong to another image, and two describe only
part of theirs. The scored captions are always clean.
"""

from clipin_jax.config import (
    METHODS,
    SCENE_METRICS,
    parse_options,
    scenes_changes,
)

LEVELS = (0.0, 0.2, 0.4, 0.6)


def get_study(arg: str | None = None) -> dict:
    """Options: seeds (how many), steps."""
    options = parse_options(arg, seeds=5, steps=600)
    return dict(
        title="Loosely aligned captions",
        question="Does CLIPin make training robust to captions that say too little or "
        "belong to another picture, as on the web?",
        methods=METHODS,
        baseline="CLIP",
        dial="looseness",
        levels={f"{x:g}": {"data.source.looseness": x} for x in LEVELS},
        metrics=SCENE_METRICS,
        seeds=range(options.seeds),
        changes=scenes_changes(total_steps=options.steps),
    )
