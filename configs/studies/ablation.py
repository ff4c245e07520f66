"""The parts of CLIPin: its start, terms, average, predictors and pre-projector.

    clipin study ablation --jobs 2
    clipin study ablation:seeds=2,steps=100        # a quick look

Each part is taken away from `:clipin`, or replaced. Four captions of ten are loose.
"""

from typing import Any

from clipin_jax.config import (
    METHODS,
    SCENE_METRICS,
    cosine,
    load_config,
    parse_options,
    scenes_changes,
)

CLIPIN = METHODS["CLIPin"]["config"]
ORTHOGONAL = METHODS["CLIP, orthogonal"]
FIRST_SEED = 320  # no search has seen these


def get_study(arg: str | None = None) -> dict:
    """Options: seeds (how many), steps, looseness."""
    options = parse_options(arg, seeds=5, steps=600, looseness=0.4)
    return dict(
        title="The parts of CLIPin",
        question="Which parts of CLIPin help, and which could be left out?",
        methods={
            "CLIPin": METHODS["CLIPin"],
            "CLIP, orthogonal": ORTHOGONAL,
            **_without(),
            **_replaced(options.steps),
        },
        baseline="CLIPin",
        metrics=SCENE_METRICS,
        seeds=range(FIRST_SEED, FIRST_SEED + options.seeds),
        changes=scenes_changes(total_steps=options.steps, looseness=options.looseness),
    )


def _clipin(changes: dict[str, Any], note: str = "") -> dict[str, Any]:
    rate = METHODS["CLIPin"]["changes"]
    return dict(config=CLIPIN, changes=rate | changes, note=note)


def _without() -> dict[str, dict[str, Any]]:
    """Returns CLIPin with one part less."""
    clip_start = {
        "model.projection_init": "clip",
        "objectives.clipin.head_init": "clip",
    }
    released = dict.fromkeys(clip_start, "released")
    pre_projector = {"model.pre_projector": 128}
    return {
        "released start": _clipin(released),
        "CLIP's start": _clipin(clip_start),
        "no pre-projector": _clipin({"model.pre_projector": 0}),
        "pre-projector alone": ORTHOGONAL
        | dict(changes=ORTHOGONAL["changes"] | pre_projector, note="CLIP with it"),
        "inter only": _clipin({"objectives.clipin.terms": ("inter",)}),
        "intra only": _clipin({"objectives.clipin.terms": ("intra",)}),
        "no average": _instead("siamese", stop_gradient=True),
        "no stop-gradient": _instead("siamese", stop_gradient=False),
        "same view": _clipin({"objectives.clipin.target_view": "same"}),
    }


def _replaced(steps: int) -> dict[str, dict[str, Any]]:
    """Returns CLIPin with one part replaced, and another second objective."""
    predictors = {
        f"predictor: {name}": _clipin({"objectives.clipin.predictor": name})
        for name in ("none", "linear", "mlp")
    }
    views = dict(weight=1.0, temperature=0.1, hidden_dim=256, projection_dim=64)
    slip = {"objectives": _objectives("clip:small") | {"simclr": views}}
    slip |= {"data.views": 2} | ORTHOGONAL["changes"]
    return predictors | {
        "decay 0.95": _clipin({"target.decay": 0.95}),
        "decay rises to 1": _clipin({"target.decay": cosine(0.99, 1.0, steps)}),
        "InfoNCE for both terms": _instead("momentum_infonce", temperature=0.2),
        "SimCLR on images": dict(config="clip:small", changes=slip, note="SLIP's term"),
    }


def _objectives(spec: str) -> dict[str, Any]:
    return load_config(spec, changes=scenes_changes()).objectives.to_dict()


def _instead(name: str, **keys: Any) -> dict[str, Any]:
    """Returns CLIPin with another objective on its heads and views."""
    objectives = _objectives(CLIPIN)
    plug = objectives.pop("clipin")
    if name == "siamese":
        del plug["target_view"]  # nothing is averaged
    return _clipin({"objectives": objectives | {name: plug | keys}})
