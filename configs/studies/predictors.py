"""Predictors of CLIPin: when do they help, by the decay of the average and the steps?

    clipin study predictors --jobs 2
    clipin study predictors:steps=2400,seeds=3     # longer runs

A predictor keeps the two branches apart, and so does an average (arXiv 2006.07733,
2011.10566). At a decay of 0 the target is the online branch of the step before. Four
captions of ten are loose.
"""

from typing import Any

from clipin_jax.config import METHODS, SCENE_METRICS, parse_options, scenes_changes

DECAYS = (0.0, 0.9, 0.99, 0.999)
PREDICTORS = {"residual": "CLIPin", "none": "no predictor", "mlp": "released predictor"}
FIRST_SEED = 400  # no search has seen these


def get_study(arg: str | None = None) -> dict:
    """Options: seeds (how many), steps, looseness."""
    options = parse_options(arg, seeds=5, steps=600, looseness=0.4)
    return dict(
        name=f"predictors_{options.steps}",
        title=f"Predictors and averages, {options.steps} steps",
        question="At which decay of the average do the predictors of CLIPin help?",
        methods={name: _with(predictor) for predictor, name in PREDICTORS.items()},
        baseline="CLIPin",
        dial="decay",
        levels={f"{x:g}": {"target.decay": x} for x in DECAYS},
        metrics=SCENE_METRICS,
        seeds=range(FIRST_SEED, FIRST_SEED + options.seeds),
        changes=scenes_changes(total_steps=options.steps, looseness=options.looseness),
    )


def _with(predictor: str) -> dict[str, Any]:
    clipin = METHODS["CLIPin"]
    changes = clipin["changes"] | {"objectives.clipin.predictor": predictor}
    return clipin | dict(changes=changes, note="")
