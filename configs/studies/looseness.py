"""Loosely aligned captions: which objectives bear pairs that do not belong together?

    clipin study looseness --jobs 2
    clipin study looseness:seeds=2,steps=100       # a quick look

At looseness 0.4, two captions of ten belong to another picture, and two say only part
of what is there. What is scored is always clean.
"""

from clipin_jax.config import FAMILY, SCENE_METRICS, on_scenes, parse_arg

LEVELS = (0.0, 0.2, 0.4, 0.6)


def get_study(arg: str | None = None) -> dict:
    """Options: seeds (how many), steps."""
    options = parse_arg(arg, seeds=5, steps=600)
    return dict(
        title="Loosely aligned captions",
        question="Does CLIPin make training robust to captions that say too little or "
        "belong to another picture, as on the web?",
        methods=FAMILY,
        baseline="CLIP",
        dial="looseness",
        levels={f"{x:g}": {"data.source.looseness": x} for x in LEVELS},
        metrics=SCENE_METRICS,
        seeds=range(options.seeds),
        changes=on_scenes(total_steps=options.steps),
    )
