"""The terms of CLIPin: which makes its gain larger where captions are loose?

    clipin study terms --jobs 2
    clipin study terms:seeds=2,steps=100           # a quick look

The inter term predicts the other modality of the pair, so a mismatched caption misleads
it. The intra term predicts the other view of the same image or caption, whatever the
pair.
"""

from typing import Any

from clipin_jax.config import METHODS, SCENE_METRICS, parse_options, scenes_changes

LEVELS = (0.0, 0.2, 0.4, 0.6)
FIRST_SEED = 390  # no search has seen these


def get_study(arg: str | None = None) -> dict:
    """Options: seeds (how many), steps."""
    options = parse_options(arg, seeds=5, steps=600)
    return dict(
        title="The terms of CLIPin and loose captions",
        question="Which term of CLIPin makes its gain larger where captions are loose?",
        methods={
            "CLIP, orthogonal": METHODS["CLIP, orthogonal"],
            "CLIPin": METHODS["CLIPin"],
            "inter only": _one_term("inter"),
            "intra only": _one_term("intra"),
        },
        baseline="CLIP, orthogonal",
        dial="looseness",
        levels={f"{x:g}": {"data.source.looseness": x} for x in LEVELS},
        metrics=SCENE_METRICS,
        seeds=range(FIRST_SEED, FIRST_SEED + options.seeds),
        changes=scenes_changes(total_steps=options.steps),
    )


def _one_term(name: str) -> dict[str, Any]:
    clipin = METHODS["CLIPin"]
    term = {"objectives.clipin.terms": (name,)}
    return clipin | dict(changes=clipin["changes"] | term, note="")
