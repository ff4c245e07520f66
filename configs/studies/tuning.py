"""Settings of CLIPin: a small search over weights, decays, widths, terms and views.

    clipin study tuning --jobs 2
    clipin study tuning:seeds=1,steps=100          # a quick look

Each candidate is trained on clean, loose and redundant captions. The best mean over the
three is the setting `:clipin=tuned`. Seeds and scored scenes (split "val") are used for
this choice alone: the studies `looseness` and `redundancy` test it on others.
"""

from typing import Any

from clipin_jax.config import (
    METHODS,
    SCENE_METRICS,
    cosine,
    linear,
    parse_options,
    scenes_changes,
)

LEVELS = {
    "clean": {},
    "loose": {"data.source.looseness": 0.4},
    "redundant": {"data.source.redundancy": 0.4},
}
FIRST_SEED = 50  # the other studies begin at 0


def get_study(arg: str | None = None) -> dict:
    """Options: seeds (how many), steps."""
    options = parse_options(arg, seeds=2, steps=600)
    return dict(
        title="Settings of CLIPin",
        question="Which setting of the plug-in is best on clean, loose and redundant "
        "captions alike?",
        methods={"CLIP": METHODS["CLIP"]} | _candidates(options.steps),
        baseline="CLIP",
        dial="captions",
        levels=LEVELS,
        metrics=SCENE_METRICS,
        seeds=range(FIRST_SEED, FIRST_SEED + options.seeds),
        changes=scenes_changes(total_steps=options.steps, scoring="val"),
    )


def _candidates(steps: int) -> dict[str, dict[str, Any]]:
    def clipin(
        *, target: dict[str, Any] | None = None, note: str = "", **plug: Any
    ) -> dict[str, Any]:
        changes = {f"objectives.clipin.{key}": value for key, value in plug.items()}
        changes |= {f"target.{key}": value for key, value in (target or {}).items()}
        return dict(config=METHODS["CLIPin"]["config"], changes=changes, note=note)

    def bare(note: str = "no pre-projector", **keys: Any) -> dict[str, Any]:
        made = clipin(note=note, **keys)
        return made | dict(changes=made["changes"] | {"model.pre_projector": 0})

    def mild(**keys: Any) -> dict[str, Any]:
        return bare("no pre-projector, weight 0.3", **(dict(weight=0.3) | keys))

    rising = cosine(0.99, 1.0, steps)
    intra = dict(terms=("intra",))
    return {
        "CLIPin": clipin(),
        "weight 0.3": clipin(weight=0.3),
        "no pre-projector, weight 0.1": bare("", weight=0.1),
        "no pre-projector, weight 0.3": bare("", weight=0.3),
        "no pre-projector, weight 1": bare("", weight=1.0),
        "no pre-projector, weight 1 to 0": bare("", weight=linear(1.0, 0.0, steps)),
        "decay 0.9": mild(target=dict(decay=0.9)),
        "decay rises": mild(target=dict(decay=rising)),
        "narrow heads": mild(projection_dim=256, predictor_hidden_dim=128),
        "same view": mild(target_view="same"),
        "inter only": mild(terms=("inter",)),
        "intra only, weight 0.1": bare(weight=0.1, **intra),
        "intra only, weight 0.3": bare(weight=0.3, **intra),
        "intra only, weight 1": bare(weight=1.0, **intra),
        "intra only, weight 3": bare(weight=3.0, **intra),
        "intra only, weight 10": bare(weight=10.0, **intra),
        "intra only, weight 0.3, same view": mild(target_view="same", **intra),
    }
