"""The parts of CLIPin: its terms, weights, decays, views, predictors and widths.

    clipin study ablation --jobs 2
    clipin study ablation:seeds=2,steps=100        # a quick look

Plain CLIP is compared with single parts added to it, CLIPin with variants in which one
part is changed. Two captions of ten are loose.
"""

from typing import Any

from clipin_jax.config import (
    SCENE_METRICS,
    cosine,
    linear,
    load_config,
    parse_options,
    scenes_changes,
)

CLIP, CLIPIN = "clip:small", "clip:small,clipin"


def get_study(arg: str | None = None) -> dict:
    """Options: seeds (how many), steps, looseness."""
    options = parse_options(arg, seeds=5, steps=600, looseness=0.2)
    changes = scenes_changes(total_steps=options.steps, looseness=options.looseness)
    added, changed = _added(), _changed(options.steps)
    methods = {"CLIP": dict(config=CLIP), **added, "CLIPin": dict(config=CLIPIN)}
    return dict(
        title="The parts of CLIPin",
        question="Which parts of CLIPin help, which could be left out, and how much "
        "do its settings matter?",
        methods=methods | changed,
        pairs=[(name, "CLIP") for name in (*added, "CLIPin")]
        + [(name, "CLIPin") for name in changed],
        metrics=SCENE_METRICS,
        seeds=range(options.seeds),
        changes=changes,
    )


def _added() -> dict[str, dict[str, Any]]:
    """Returns CLIP with single parts of CLIPin, or with alternatives to them."""

    def terms(*names: str) -> dict[str, Any]:
        return dict(config=CLIPIN, changes={"objectives.clipin.terms": names})

    small_heads = {
        "objectives.clipin.terms": ("inter",),
        "objectives.clipin.projection_dim": 64,
        "objectives.clipin.predictor_hidden_dim": 256,
    }
    views = dict(
        simclr=dict(weight=1.0, temperature=0.1, hidden_dim=256, projection_dim=64)
    )
    return {
        "pre-projector": dict(config=CLIP, changes={"model.pre_projector": 128}),
        "inter": terms("inter"),
        "intra": terms("intra"),
        "inter, small heads": dict(
            config=CLIPIN, changes=small_heads, note="as BYOL between modalities"
        ),
        "InfoNCE for both terms": _instead("momentum_infonce", temperature=0.2),
        "SimCLR on images": dict(
            config=CLIP,
            changes={"objectives": _objectives() | views, "data.views": 2},
            note="SLIP's term",
        ),
    }


def _changed(steps: int) -> dict[str, dict[str, Any]]:
    """Returns variants of CLIPin with one change each."""

    def clipin(changes: dict[str, Any], note: str = "") -> dict[str, Any]:
        return dict(config=CLIPIN, changes=changes, note=note)

    def weight(value: Any) -> dict[str, Any]:
        return clipin({"objectives.clipin.weight": value})

    def decay(value: Any, note: str = "") -> dict[str, Any]:
        return clipin({"target.decay": value}, note)

    def width(projection: int, hidden: int) -> dict[str, Any]:
        return clipin(
            {
                "objectives.clipin.projection_dim": projection,
                "objectives.clipin.predictor_hidden_dim": hidden,
            }
        )

    learned = ("objectives.contrastive.weight", "objectives.clipin.intra_weight")
    no_predictor = {"objectives.clipin.predictor_hidden_dim": 0}
    same_view = {"objectives.clipin.target_view": "same"}
    unguarded = dict(stop_gradient=False, predictor_hidden_dim=0)
    return {
        "weight 0.25": weight(0.25),
        "weight 4": weight(4.0),
        "weight falls to 0": weight(linear(1.0, 0.0, steps)),
        "weight rises from 0": weight(linear(0.0, 1.0, steps)),
        "weights learned": clipin(dict.fromkeys(learned, "learned"), "as released"),
        "decay 0": decay(0.0, "the target is the online network"),
        "decay 0.95": decay(0.95, "as released"),
        "decay 0.999": decay(0.999),
        "decay rises to 1": decay(cosine(0.99, 1.0, steps)),
        "same view": clipin(same_view, "the target sees what the online branch sees"),
        "both ways": clipin({"target.symmetric": True}, "views also change places"),
        "no predictor": clipin(no_predictor),
        "no average": _instead("siamese", stop_gradient=True),
        "no stop-gradient": _instead("siamese", stop_gradient=False),
        "no predictor, no stop-gradient": _instead("siamese", **unguarded),
        "no pre-projector": clipin({"model.pre_projector": 0}),
        "wide pre-projector": clipin({"model.pre_projector": 512}),
        "narrow heads": width(256, 64),
        "wide heads": width(4096, 1024),
    }


def _objectives() -> dict[str, Any]:
    """Returns the objectives of CLIP's config."""
    return load_config(CLIP, changes=scenes_changes()).objectives.to_dict()


def _instead(name: str, **keys: Any) -> dict[str, Any]:
    """Returns CLIPin with another objective on its heads and views."""
    plug = load_config(CLIPIN, changes=scenes_changes()).objectives.clipin.to_dict()
    if name == "siamese":
        del plug["target_view"]  # nothing is averaged
    changes = {"objectives": _objectives() | {name: plug | keys}}
    return dict(config=CLIPIN, changes=changes)
