"""Settings of CLIPin: a small search over weights, decays, widths, terms and views.

    clipin study tuning --jobs 2
    clipin study tuning:seeds=1,steps=100          # a quick look

Each candidate is trained on clean, loose and redundant captions; the best mean over the
three is the setting `:clipin=tuned`. It is chosen with seeds and on scenes of its own
(split "val"): the studies `looseness` and `redundancy` see whether it holds on others.
"""

from typing import Any

from clipin_jax.config import (
    FAMILY,
    SCENE_METRICS,
    cosine,
    linear,
    on_scenes,
    parse_arg,
)

LEVELS = {
    "clean": {},
    "loose": {"data.source.looseness": 0.4},
    "redundant": {"data.source.redundancy": 0.4},
}
FIRST_SEED = 50  # those of the other studies begin at 0


def get_study(arg: str | None = None) -> dict:
    """Options: seeds (how many), steps."""
    options = parse_arg(arg, seeds=2, steps=600)
    return dict(
        title="Settings of CLIPin",
        question="Which setting of the plug-in is best on clean, loose and redundant "
        "captions alike?",
        methods={"CLIP": FAMILY["CLIP"]} | _candidates(options.steps),
        baseline="CLIP",
        dial="captions",
        levels=LEVELS,
        metrics=SCENE_METRICS,
        seeds=range(FIRST_SEED, FIRST_SEED + options.seeds),
        changes=on_scenes(total_steps=options.steps, scoring="val"),
    )


def _candidates(steps: int) -> dict[str, dict[str, Any]]:
    def clipin(changes: dict[str, Any], **plug: Any) -> dict[str, Any]:
        changes = changes | {
            f"objectives.clipin.{key}": value for key, value in plug.items()
        }
        return dict(config=FAMILY["CLIPin"]["config"], changes=changes)

    def unprojected(weight: Any, decay: Any = 0.99, **plug: Any) -> dict[str, Any]:
        changes = {"model.pre_projector": 0, "target.decay": decay}
        return clipin(changes, weight=weight, **plug)

    rising = cosine(0.99, 1.0, steps)
    narrow = dict(projection_dim=256, predictor_hidden_dim=128)
    return {
        "CLIPin": clipin({}),
        "weight 0.3": clipin({}, weight=0.3),
        "no pre-projector": unprojected(1.0),
        "no pre-projector, weight 0.1": unprojected(0.1),
        "no pre-projector, weight 0.3": unprojected(0.3),
        "no pre-projector, weight 1 to 0": unprojected(linear(1.0, 0.0, steps)),
        "so at 0.3, decay 0.9": unprojected(0.3, 0.9),
        "so at 0.3, decay rises": unprojected(0.3, rising),
        "so at 0.3, narrow": unprojected(0.3, **narrow),
        "so at 0.3, same view": unprojected(0.3, target_view="same"),
        "so at 0.3, inter only": unprojected(0.3, terms=("inter",)),
        "so at 0.3, intra only": unprojected(0.3, terms=("intra",)),
        "intra only, weight 0.1": unprojected(0.1, terms=("intra",)),
        "intra only, weight 1": unprojected(1.0, terms=("intra",)),
        "intra only, weight 3": unprojected(3.0, terms=("intra",)),
        "intra only, same view": unprojected(0.3, terms=("intra",), target_view="same"),
    }
