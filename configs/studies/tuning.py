"""Settings of CLIPin, and of CLIP: how heads start, predictors, weights, averages.

    clipin study tuning --jobs 2
    clipin study tuning:seeds=1,steps=100          # a quick look

Each candidate is trained on clean and on loose captions. The best mean is the setting
`:clipin`. Seeds and scored pairs (split "val") are used for this choice alone: the
other studies test it on others. CLIP has as many learning rates to choose from.
"""

from collections.abc import Mapping
from typing import Any

from clipin_jax.config import (
    METHODS,
    SCENE_METRICS,
    cosine,
    linear,
    load_config,
    parse_options,
    scenes_changes,
)

LEVELS = {
    "clean": {},
    "loose": {"data.source.looseness": 0.4},
}
FIRST_SEED = 50  # the other studies have other seeds
RATES = (3.5e-4, 1e-3, 1.4e-3)  # beside 7e-4
PEAK = "optim.learning_rate.peak"
# The layers between towers and losses of the host.
HEADS = "^towers/(image|text)_(pre_projector|projection)/"


def get_study(arg: str | None = None) -> dict:
    """Options: seeds (how many), steps."""
    options = parse_options(arg, seeds=2, steps=600)
    return dict(
        title="Settings of CLIPin",
        question="Which setting of the plug-in is best on clean and loose captions "
        "alike, and which of CLIP?",
        methods=_clip() | _starts() | _rates() | _parts(options.steps),
        baseline="CLIP, orthogonal",
        dial="captions",
        levels=LEVELS,
        metrics=SCENE_METRICS,
        seeds=range(FIRST_SEED, FIRST_SEED + options.seeds),
        changes=scenes_changes(total_steps=options.steps, scoring="val"),
    )


def _clip() -> dict[str, dict[str, Any]]:
    methods = {"CLIP": METHODS["CLIP"]}
    for init in ("orthogonal", "clip"):
        methods[f"CLIP, {init}"] = _clip_with({"model.projection_init": init})
    for rate in RATES:
        methods[f"CLIP, {rate:g}"] = _clip_with({PEAK: rate})
        changes = {PEAK: rate, "model.projection_init": "orthogonal"}
        methods[f"CLIP, orthogonal, {rate:g}"] = _clip_with(changes)
    return methods


def _clip_with(changes: Mapping[str, Any]) -> dict[str, Any]:
    return METHODS["CLIP"] | dict(changes=changes)


def _clipin(changes: Mapping[str, Any], **plug: Any) -> dict[str, Any]:
    """Returns the released setting with an orthogonal start, and changes to it."""
    start = {"model.projection_init": "orthogonal"}
    plug = dict(head_init="orthogonal", predictor="residual") | plug
    keys = {f"objectives.clipin.{key}": value for key, value in plug.items()}
    config = "clip:small,clipin=released"
    return dict(config=config, changes=start | keys | dict(changes))


def _starts() -> dict[str, dict[str, Any]]:
    """Returns starts and predictors."""
    clip = {"model.projection_init": "clip"}
    return {
        "CLIPin, released": dict(config="clip:small,clipin=released"),
        "released predictor": _clipin({}, predictor="mlp"),
        "no predictor": _clipin({}, predictor="none"),
        "linear predictor": _clipin({}, predictor="linear"),
        "residual predictor": _clipin({}),
        "residual predictor, CLIP's start": _clipin(clip, head_init="clip"),
        "only the joint space orthogonal": _clipin({}, head_init="released"),
    }


def _rates() -> dict[str, dict[str, Any]]:
    slower = {"optim.groups": ((HEADS, dict(learning_rate=0.25)),)}
    return {f"rate {rate:g}": _clipin({PEAK: rate}) for rate in RATES} | {
        "rate of the joint space 0.25": _clipin(slower)
    }


def _parts(steps: int) -> dict[str, dict[str, Any]]:
    """Returns weights, averages, widths, views and losses."""
    rising = cosine(0.99, 1.0, steps)
    return {
        "weight 0.3": _clipin({}, weight=0.3),
        "weight 3": _clipin({}, weight=3.0),
        "weight rises": _clipin({}, weight=linear(0.0, 1.0, steps // 2)),
        "intra weight 3": _clipin({}, intra_weight=3.0),
        "decay 0.996": _clipin({"target.decay": 0.996}),
        "decay 0.999": _clipin({"target.decay": 0.999}),
        "decay rises": _clipin({"target.decay": rising}),
        "narrow projection": _clipin({}, projection_dim=128),
        "same view": _clipin({}, target_view="same"),
        "another caption": _clipin({"data.second_text": "another"}),
        "InfoNCE for both terms": _infonce(),
    }


def _infonce() -> dict[str, Any]:
    """Returns CLIPin with classification among the batch in place of regression."""
    method = _clipin({})
    config = load_config(method["config"], changes=scenes_changes())
    objectives = config.objectives.to_dict()
    heads = objectives.pop("clipin") | dict(
        head_init="orthogonal", predictor="residual"
    )
    objectives["momentum_infonce"] = heads | dict(temperature=0.2)
    start = {"model.projection_init": "orthogonal", "objectives": objectives}
    return dict(config=method["config"], changes=start)
