"""What a study consists of: methods, levels of a dial, seeds; one run for each.

A study file is Python with `get_study(arg)`, which returns a dict:

    title, question        what is asked, in words
    methods                name -> dict(config="clip:small", changes={...}, note="...")
    baseline or pairs      the method that all others are compared with, or
                           (method, what it is compared with) pairs
    dial, levels           name of the dial, and level -> changes; "" and {"": {}} if
                           there is none
    metrics                "EVALUATOR/FIGURE" -> label, the one that decides first
    seeds                  whole numbers
    changes                of all runs

Changes are dotted config keys and their values. Those of a method come after those of
all runs, those of a level last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from clipin_jax.config import call_file, config_folder, list_studies, load_config
from clipin_jax.errors import ClipinError, did_you_mean

_KEYS = {  # and whether they may be left out
    "title": False, "question": False, "methods": False, "baseline": True,
    "pairs": True, "dial": True, "levels": True, "metrics": False, "seeds": False,
    "changes": True,
}  # fmt: skip
_METHOD_KEYS = ("config", "changes", "note")


class Cell(NamedTuple):
    """One run of the grid."""

    method: str
    level: str
    seed: int

    @property
    def folder(self) -> Path:
        """Where its run is, within the folder of the study."""
        parts = [self.method, self.level, f"seed {self.seed}"]
        return Path(*(re.sub(r"[^\w.+-]+", "_", part) for part in parts if part))

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.method, self.level, f"seed {self.seed}")))


@dataclass(frozen=True)
class Study:
    """A study as its file says it, checked.

    Attributes:
      facts: what results.json repeats: title, question, methods, notes, baseline or
        pairs, dial, levels, seeds.
      metrics: "EVALUATOR/FIGURE" -> label.
      configs: the config of every cell, in the order in which they run: one seed of
        everything first, so that a study that is stopped has compared all methods.
      settings: how the configs were made.
    """

    name: str
    facts: dict[str, Any]
    settings: dict[str, Any]
    metrics: Mapping[str, str]
    configs: Mapping[Cell, ConfigDict]


def load_study(spec: str) -> Study:
    """A study from "NAME", "NAME:OPTIONS" or a path.

    Raises:
      ClipinError: what is wrong with the name, the file or one of its configs.
    """
    name, _, arg = spec.partition(":")
    path = _find(name)
    made = call_file(path, "get_study", arg)
    where = f"study {path.stem}"
    _check(made, where)
    methods, levels = made["methods"], made.get("levels") or {"": {}}
    configs = {}
    for seed in made["seeds"]:
        for level, last in levels.items():
            for method, entry in methods.items():
                cell = Cell(method, level, seed)
                own = entry.get("changes", {})
                changes = {**made.get("changes", {}), **own, **last, "seed": seed}
                configs[cell] = _config(entry["config"], changes, f"{where}, {cell}")
    _check_folders(configs, where)
    notes = {m: entry["note"] for m, entry in methods.items() if "note" in entry}
    facts = dict(
        name=path.stem, title=made["title"], question=made["question"],
        methods=list(methods), notes=notes, dial=made.get("dial", ""),
        levels=list(levels), seeds=list(made["seeds"]),
    )  # fmt: skip
    if "pairs" in made:
        facts["pairs"] = [list(pair) for pair in made["pairs"]]
    else:
        facts["baseline"] = made["baseline"]
    settings = {
        key: made[key] for key in ("methods", "levels", "changes") if key in made
    }
    return Study(path.stem, facts, settings, dict(made["metrics"]), configs)


def _find(name: str) -> Path:
    for path in (Path(name), config_folder() / "studies" / f"{name}.py"):
        if path.suffix == ".py" and path.is_file():
            return path
    raise ClipinError(
        f"no study {name!r}, neither a file nor a known name: "
        f"{did_you_mean(name, list_studies())}"
    )


def _config(spec: str, changes: Mapping[str, Any], where: str) -> ConfigDict:
    try:
        return load_config(spec, changes=changes)
    except ClipinError as error:
        raise ClipinError(f"{where}: {error}") from error


def _check(made: Any, where: str) -> None:
    if not isinstance(made, Mapping):
        raise ClipinError(f"{where}: get_study(arg) must return a dict, got {made!r}")
    for key in made:
        if key not in _KEYS:
            raise ClipinError(f"{where}: {key!r} is no key: {did_you_mean(key, _KEYS)}")
    for key, optional in _KEYS.items():
        if not optional and not made.get(key):
            raise ClipinError(f"{where}: {key} is missing")
    methods = made["methods"]
    for name, entry in methods.items():
        unknown = [key for key in entry if key not in _METHOD_KEYS]
        if unknown or "config" not in entry:
            raise ClipinError(
                f"{where}: method {name!r} must be a dict with config and, if wanted, "
                f"changes and note; it has {', '.join(entry) or 'no keys'}"
            )
    pairs = made.get("pairs") or [(made.get("baseline"), made.get("baseline"))]
    for name in (name for pair in pairs for name in pair):
        if name not in methods:
            known = did_you_mean(str(name), methods)
            raise ClipinError(f"{where}: it compares with {name!r}, no method: {known}")


def _check_folders(configs: Mapping[Cell, Any], where: str) -> None:
    seen: dict[Path, Cell] = {}
    for cell in configs:
        if cell.folder in seen:
            raise ClipinError(
                f"{where}: {cell} and {seen[cell.folder]} would share the folder "
                f"{cell.folder}: give them names that differ in letters"
            )
        seen[cell.folder] = cell
