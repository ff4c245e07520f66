"""The names of searches and of rules that stop runs; Optuna does the work."""

from __future__ import annotations

import importlib.util

from clipin_jax.errors import ClipinError

SEARCHED = {
    "tpe": "tree-structured Parzen estimators",
    "gp": "a Gaussian process",
    "nsga2": "NSGA-II, for two metrics",
}
ASHA, WILCOXON = "asha", "wilcoxon"
RULES = {
    ASHA: "successive halving: of the runs at a rung, the best third goes on",
    "hyperband": "several successive halvings, the later ones more patient",
    "median": "stops a run below the median of the others at the same step",
    WILCOXON: "stops a point whose seeds are worse than those of the best one",
}


def check_installed(name: str) -> None:
    """Checks that the packages of a method or a rule are there.

    Raises:
      ClipinError: Optuna is absent, or PyTorch for the Gaussian process.
    """
    for package, needed in (("optuna", True), ("torch", name == "gp")):
        if needed and importlib.util.find_spec(package) is None:
            extra = "clipin_jax[sweep]" if package == "optuna" else package
            raise ClipinError(
                f"{name} needs {package}, which is not installed: pip install {extra}; "
                "grid, zip, random and quasi need nothing"
            )
