"""CLIPin in every framework: does it help each of them, and at what cost?

    clipin study hosts --jobs 2
    clipin study hosts:seeds=2,steps=100           # a quick look

The plug-in is compared as recommended and as released with the host that has the
recommended start. Four captions of ten are loose. ALBEF and BLIP have no queue: with
one they hardly learn in so few steps.
"""

from typing import Any

from clipin_jax.config import CLIPIN, SCENE_METRICS, parse_options, scenes_changes

# Keys of a queue seem to be outdated in so short a run, see docs/guides/study.md.
NO_QUEUE = {"objectives.momentum_contrastive.queue_length": 0}
START = {"model.projection_init": "orthogonal"}
FIRST_SEED = 360  # no search has seen these
HOSTS: dict[str, tuple[str, dict[str, Any]]] = {
    "CLIP": ("clip", {}),
    "SigLIP": ("siglip", {}),
    "nCLIP": ("nclip", {}),
    "xCLIP": ("xclip", {}),
    "ALBEF": ("albef", NO_QUEUE | {"model.text.fusion_depth": 2}),
    "BLIP": ("blip", NO_QUEUE),
    "CoCa": ("coca", {"model.image.pool_width": 64}),
}


def get_study(arg: str | None = None) -> dict:
    """Options: seeds (how many), steps, looseness."""
    options = parse_options(arg, seeds=5, steps=600, looseness=0.4)
    methods, pairs = {}, []
    for host, (config, changes) in HOSTS.items():
        methods[host] = dict(config=f"{config}:small", changes=changes | START)
        for setting in CLIPIN:
            plugged, spec = f"{host} + {setting}", f"{config}:small,clipin={setting}"
            methods[plugged] = dict(config=spec, changes=changes)
            pairs.append((plugged, host))
    return dict(
        title="CLIPin in every framework",
        question="Does CLIPin help each framework that it plugs into, and what does "
        "it cost there?",
        methods=methods,
        pairs=pairs,
        metrics=SCENE_METRICS,
        seeds=range(FIRST_SEED, FIRST_SEED + options.seeds),
        changes=scenes_changes(total_steps=options.steps, looseness=options.looseness),
    )
