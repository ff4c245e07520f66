"""CLIPin's protocols: the released probe, and zero-shot on unseen data sets.

    clipin evaluate RUN --suite paper --data FOLDER

Paper: CLIPin, arXiv 2508.06434; protocols: T6Yang/CLIPin, `downstream.py`, `test.py`.
The paper reports macro AUC and macro AP over the classes. The six data sets of the
released code come first, then all others in the folder. `prediction` compares
predictions with projections, which plain hosts lack.

The released probe encodes the training images in each of 50 epochs, as augmented views:
nearly all of the time. `--only zero_shot` leaves it out.

`zero_shot_bare` uses bare class names, as the released code does; `zero_shot` uses
prompts, as the paper describes.
"""

from typing import Any

from ml_collections import ConfigDict

RELEASED = ("voc2007", "cifar10", "cifar100", "sun397", "pets", "caltech101")


def get_evals(data: Any, config: ConfigDict) -> dict[str, Any]:
    zero_shot = dict(
        zero_shot=dict(type="zero_shot"),
        zero_shot_bare=dict(type="zero_shot", templates=("{}",)),
        zero_shot_prediction=dict(type="zero_shot", similarity="prediction"),
    )
    probe = dict(released_probe=dict(type="released_probe"))
    return {
        **data.over("classes", *RELEASED, **zero_shot),
        **data.over("classes", **zero_shot),
        **data.over("splits", *RELEASED, **probe),
        **data.over("splits", **probe),
    }
