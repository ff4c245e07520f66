"""CLIPin's own protocols: the released probe, and zero-shot on sets never seen.

    clipin evaluate RUN --suite paper --data FOLDER

Paper: CLIPin, arXiv 2508.06434; protocols: T6Yang/CLIPin, `downstream.py`, `test.py`.
Macro AUC and macro AP over the classes are the figures that the paper gives. The six
sets are those of the released code; all others in the folder follow. `prediction`
compares by CLIPin's second path, which plain hosts lack.

The released probe encodes the training images anew in each of 50 epochs, as views; that
is nearly all of the time. `--only zero_shot` leaves it out.

The release shows bare class names; so does `zero_shot_bare`. The other uses prompts, as
the paper says it did.
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
