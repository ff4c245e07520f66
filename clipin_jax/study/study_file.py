"""Study files: which methods, levels and seeds a study has, and the config of each run.

A study file is Python with `get_study(arg)`, which returns a dict:

    title, question        of the study, as text
    name                   of its results and folder; that of the file if left out
    methods                name -> dict(config="clip:small", changes={...}, note="...")
    baseline or pairs      the method that all others are compared with, or pairs
                           (method, the method it is compared with)
    dial, levels           name of a setting, and level -> changes; leave both out if
                           the study has none
    metrics                "EVALUATOR/FIGURE" -> label; the first one is the primary
    seeds                  integers
    changes                of all runs

Changes are dotted config keys and their values. The changes of a method are applied
after those of all runs, and those of a level last.
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
from clipin_jax.sweep.processes.runs import Run

_REQUIRED = ("title", "question", "methods", "metrics", "seeds")
_KEYS = (*_REQUIRED, "name", "baseline", "pairs", "dial", "levels", "changes")
_NAME = r"\w[\w.+-]*"
_METHOD_KEYS = ("config", "changes", "note")


class PlannedRun(NamedTuple):
    """One training run in the grid of a study."""

    method: str
    level: str
    seed: int

    @property
    def folder(self) -> Path:
        """The run folder, relative to the folder of the study."""
        parts = [self.method, self.level, f"seed {self.seed}"]
        return Path(*(re.sub(r"[^\w.+-]+", "_", part) for part in parts if part))

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.method, self.level, f"seed {self.seed}")))


@dataclass(frozen=True)
class Study:
    """A study as its file describes it, checked.

    Attributes:
      name: of its results and its folder.
      facts: what results.json repeats: name, title, question, methods, notes, baseline
        or pairs, dial, levels, seeds.
      settings: the changes from which the configs were made.
      metrics: "EVALUATOR/FIGURE" -> label.
      configs: of every run, in the order in which they run: one seed of everything
        first, so that a study that is stopped has compared all methods.
    """

    name: str
    facts: dict[str, Any]
    settings: dict[str, Any]
    metrics: Mapping[str, str]
    configs: Mapping[PlannedRun, ConfigDict]

    def runs(self, folder: Path) -> dict[PlannedRun, Run]:
        """Returns every run with its places in the folder of the study."""
        return {
            planned: Run(str(planned), config, folder, planned.folder)
            for planned, config in self.configs.items()
        }


def load_study(spec: str) -> Study:
    """Loads a study from "NAME", "NAME:OPTIONS" or a path.

    Raises:
      ClipinError: the name, the file or one of its configs is wrong.
    """
    file, _, arg = spec.partition(":")
    path = _find_file(file)
    content = call_file(path, "get_study", arg)
    where = f"study {path.stem}"
    _check(content, where)
    configs = _load_configs(content, where)
    _check_folders(configs, where)
    keys = ("methods", "levels", "changes")
    name = content.get("name", path.stem)
    return Study(
        name=name,
        facts=_facts(name, content),
        settings={key: content[key] for key in keys if key in content},
        metrics=dict(content["metrics"]),
        configs=configs,
    )


def _find_file(name: str) -> Path:
    for path in (Path(name), config_folder() / "studies" / f"{name}.py"):
        if path.suffix == ".py" and path.is_file():
            return path
    raise ClipinError(
        f"no study {name!r}, neither a file nor a known name: "
        f"{did_you_mean(name, list_studies())}"
    )


def _load_configs(
    content: Mapping[str, Any], where: str
) -> dict[PlannedRun, ConfigDict]:
    configs = {}
    for seed in content["seeds"]:
        for level, level_changes in _levels(content).items():
            for method, entry in content["methods"].items():
                planned = PlannedRun(method, level, seed)
                changes = {
                    **content.get("changes", {}),
                    **entry.get("changes", {}),
                    **level_changes,
                    "seed": seed,
                }
                try:
                    configs[planned] = load_config(entry["config"], changes=changes)
                except ClipinError as error:
                    raise ClipinError(f"{where}, {planned}: {error}") from error
    return configs


def _levels(content: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    return content.get("levels") or {"": {}}


def _facts(name: str, content: Mapping[str, Any]) -> dict[str, Any]:
    methods = content["methods"]
    facts = {
        "name": name,
        "title": content["title"],
        "question": content["question"],
        "methods": list(methods),
        "notes": {m: entry["note"] for m, entry in methods.items() if "note" in entry},
        "dial": content.get("dial", ""),
        "levels": list(_levels(content)),
        "seeds": list(content["seeds"]),
    }
    if "pairs" in content:
        return facts | {"pairs": [list(pair) for pair in content["pairs"]]}
    return facts | {"baseline": content["baseline"]}


def _check(content: Any, where: str) -> None:
    if not isinstance(content, Mapping):
        raise ClipinError(
            f"{where}: get_study(arg) must return a dict, not {content!r}"
        )
    for key in content:
        if key not in _KEYS:
            raise ClipinError(
                f"{where}: there is no key {key!r}: {did_you_mean(key, _KEYS)}"
            )
    for key in _REQUIRED:
        if not content.get(key):
            raise ClipinError(f"{where}: {key} is missing")
    if not re.fullmatch(_NAME, str(content.get("name", "x"))):
        raise ClipinError(
            f"{where}: the name {content['name']!r} must have letters, digits, "
            "'_', '-', '.' or '+' alone, as it names files"
        )
    for name, entry in content["methods"].items():
        unknown = [key for key in entry if key not in _METHOD_KEYS]
        if unknown or "config" not in entry:
            raise ClipinError(
                f"{where}: method {name!r} must be a dict with config and optional "
                f"changes and note; it has {', '.join(entry) or 'no keys'}"
            )
    _check_pairs(content, where)


def _check_pairs(content: Mapping[str, Any], where: str) -> None:
    methods, baseline = content["methods"], content.get("baseline")
    for pair in content.get("pairs") or [(baseline, baseline)]:
        for name in pair:
            if name not in methods:
                raise ClipinError(
                    f"{where}: the baseline or pairs name {name!r}, which is no "
                    f"method: {did_you_mean(str(name), methods)}"
                )


def _check_folders(configs: Mapping[PlannedRun, ConfigDict], where: str) -> None:
    folders: dict[Path, PlannedRun] = {}
    for planned in configs:
        other = folders.setdefault(planned.folder, planned)
        if other is not planned:
            raise ClipinError(
                f"{where}: {planned} and {other} would share the folder "
                f"{planned.folder}: give them names that differ in letters or digits"
            )
