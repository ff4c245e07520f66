"""Redundant captions: which objectives bear many pictures with one and the same text?

    clipin study redundancy --jobs 2
    clipin study redundancy:seeds=2,steps=100      # a quick look

At redundancy 0.4, four pictures of ten come with nothing but one of eight stock
sentences, as most medical reports say that nothing was found. What is scored is always
clean.
"""

from clipin_jax.config import FAMILY, SCENE_METRICS, on_scenes, parse_arg

LEVELS = (0.0, 0.2, 0.4, 0.6)


def get_study(arg: str | None = None) -> dict:
    """Options: seeds (how many), steps."""
    options = parse_arg(arg, seeds=5, steps=600)
    return dict(
        title="Redundant captions",
        question="Does CLIPin make training robust to many pictures that share one "
        "text, as medical images share reports?",
        methods=FAMILY,
        baseline="CLIP",
        dial="redundancy",
        levels={f"{x:g}": {"data.source.redundancy": x} for x in LEVELS},
        metrics=SCENE_METRICS,
        seeds=range(options.seeds),
        changes=on_scenes(total_steps=options.steps),
    )
