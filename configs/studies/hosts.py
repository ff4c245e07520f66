"""CLIPin in every framework: does it help each of them, and at what cost?

    clipin study hosts --jobs 2
    clipin study hosts:seeds=2,steps=100           # a quick look
    clipin study hosts:tuning,seeds=2              # the rates, on other seeds

The plug-in is compared as recommended and as released with the host that has the
recommended start. Four captions of ten are loose. Each method has the learning rate
that `tuning` chose for it. ALBEF and BLIP have no queue and no dropout: with either
they hardly learn in so few steps.
"""

from typing import Any

from clipin_jax.config import CLIPIN, SCENE_METRICS, parse_options, scenes_changes

# Keys of a queue seem to be outdated in so short a run, and text towers of width 64
# lose too much to dropout, see docs/guides/study.md.
SHORT = {
    "objectives.momentum_contrastive.queue_length": 0,
    "model.text.dropout": 0.0,
}
START = {"model.projection_init": "orthogonal"}
PEAK = "optim.learning_rate.peak"
FIRST_SEED = 360  # no search has seen these
TUNING_SEED = 54
TRIED = (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3)
MIDDLE = TRIED[2]
HOSTS: dict[str, tuple[str, dict[str, Any]]] = {
    "CLIP": ("clip", {}),
    "SigLIP": ("siglip", {}),
    "nCLIP": ("nclip", {}),
    "xCLIP": ("xclip", {}),
    "ALBEF": ("albef", SHORT | {"model.text.fusion_depth": 2}),
    "BLIP": ("blip", SHORT),
    "CoCa": ("coca", {"model.image.pool_width": 64}),
}
# Peaks of the learning rate: of the host, with CLIPin, and with CLIPin released. That
# of CLIP is the best of four seeds in the study `tuning`, the others of one seed here.
RATES = {
    "CLIP": (7e-4, 1e-3, 5e-4),
    "SigLIP": (5e-4, 1e-3, 5e-4),
    "nCLIP": (5e-4, 5e-4, 5e-4),
    "xCLIP": (5e-4, 5e-4, 5e-4),
    "ALBEF": (1e-3, 2e-3, 2e-3),
    "BLIP": (5e-4, 4e-3, 2e-3),
    "CoCa": (5e-4, 1e-3, 1e-3),
}


def get_study(arg: str | None = None) -> dict:
    """Options: seeds (how many), steps, looseness, tuning."""
    options = parse_options(arg, seeds=5, steps=600, looseness=0.4, tuning=False)
    methods, pairs = {}, []
    for host, (config, changes) in HOSTS.items():
        own, *plugged_rates = RATES[host]
        methods[host] = dict(
            config=f"{config}:small", changes=changes | START | {PEAK: own}
        )
        for setting, rate in zip(CLIPIN, plugged_rates, strict=True):
            plugged, spec = f"{host} + {setting}", f"{config}:small,clipin={setting}"
            methods[plugged] = dict(config=spec, changes=changes | {PEAK: rate})
            pairs.append((plugged, host))
    scoring = "val" if options.tuning else "test"
    first = TUNING_SEED if options.tuning else FIRST_SEED
    study = dict(
        title="CLIPin in every framework",
        question="Does CLIPin help each framework that it plugs into, and what does "
        "it cost there?",
        methods=methods,
        pairs=pairs,
        metrics=SCENE_METRICS,
        seeds=range(first, first + options.seeds),
        changes=scenes_changes(
            total_steps=options.steps, looseness=options.looseness, scoring=scoring
        ),
    )
    return study | (_rates(methods) if options.tuning else {})


def _rates(methods: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Returns what a search for the rates has instead."""
    tried = {
        f"{name}, {rate:g}": method | dict(changes=method["changes"] | {PEAK: rate})
        for name, method in methods.items()
        for rate in TRIED
    }
    return dict(
        name="hosts_tuning",
        title="Learning rates of the frameworks",
        question="Which peak of the learning rate is best for each?",
        methods=tried,
        pairs=[
            (f"{name}, {rate:g}", f"{name}, {MIDDLE:g}")
            for name in methods
            for rate in TRIED
            if rate != MIDDLE
        ],
    )
