"""A sweep as it is kept in its folder, and the configs of its points."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from clipin_jax.config import (
    apply_overrides,
    config_hash,
    followers,
    from_json,
    resolve,
    to_json,
    with_defaults,
)
from clipin_jax.config.overrides import drop_removed
from clipin_jax.errors import ClipinError
from clipin_jax.report.tables import flatten
from clipin_jax.runs.folder import FREE_KEYS, write_file
from clipin_jax.sweep.goals import Goal
from clipin_jax.sweep.processes.runs import Run
from clipin_jax.sweep.space.axes import Choices, Range, Space
from clipin_jax.sweep.space.designs import DRAWN, LISTED, Assignment

FILE = "sweep.json"
FIXED, OPEN = SCHEDULES = ("fixed", "open")
_DIGITS = 12  # of a hash


@dataclass(frozen=True)
class Sweep:
    """What is trained, and what for.

    Attributes:
      name: of the config or of the sweep's file.
      spec: the config, as given.
      base: the config with the values that all points share; locked.
      space: keys and their values.
      method: of `designs.LISTED`, `designs.DRAWN` or `search.SEARCHED`.
      trials: how many points a method draws; 0 for a grid or zip.
      seeds: how many runs each point has, with seeds from `base.seed` on.
      goals: what is made best; the first one counts, except for nsga2.
      prune: a rule of `pruning.RULES` that stops bad runs; "" for none.
      schedule: `FIXED` if schedules span `total_steps`; `OPEN` if none looks at the
        end, so that a longer sweep goes on with the runs of a shorter one.
    """

    name: str
    spec: str
    base: ConfigDict
    space: Space
    method: str
    trials: int
    seeds: int
    goals: tuple[Goal, ...]
    prune: str
    schedule: str

    @property
    def is_listed(self) -> bool:
        """Whether all points are known before the first one runs."""
        return self.method in LISTED or self.method in DRAWN

    @property
    def has_journal(self) -> bool:
        """Whether points are trials in a journal of Optuna."""
        return bool(self.prune) or not self.is_listed

    def assignments(self) -> list[Assignment]:
        """Returns the points of a sweep that `is_listed`."""
        if self.method in LISTED:
            return LISTED[self.method](self.space)
        return DRAWN[self.method](self.space, self.trials, self.base.seed)

    def config(self, assignment: Assignment) -> ConfigDict:
        """Returns the config of a point, with the first seed.

        Raises:
          ClipinError: a key does not exist, or cannot have its value.
        """
        changed = apply_overrides(self.base, override_texts(assignment))
        if changed.is_locked:
            changed.unlock()
        drop_removed(changed)
        return changed.lock()

    def runs(self, assignment: Assignment, home: Path) -> list[Run]:
        """Returns the runs of a point, one for each seed, in the folder of the sweep.

        Raises:
          ClipinError: as `config`.
        """
        first = self.config(assignment)
        configs = [
            first if not i else apply_overrides(first, [f"seed={first.seed + i}"])
            for i in range(self.seeds)
        ]
        shown = ", ".join(f"{shorten_key(k)}={v}" for k, v in assignment.items())
        return [
            Run(
                f"{shown}, seed {config.seed}" if self.seeds > 1 else shown,
                config,
                home,
                Path("points", run_hash(config, length_counts=self.schedule == FIXED)),
                may_go_on=self.schedule == OPEN,
            )
            for config in configs
        ]

    def to_json(self) -> str:
        """Returns the content of `sweep.json`."""
        axes = {
            key: list(axis.values) if isinstance(axis, Choices) else axis._asdict()
            for key, axis in self.space.axes.items()
        }
        content = {
            **{k: getattr(self, k) for k in _PLAIN},
            "goals": [list(goal) for goal in self.goals],
            "axes": axes,
            "shared": list(self.space.fixed),
            "base": json.loads(to_json(self.base)),
        }
        return json.dumps(content, indent=1) + "\n"


_PLAIN = ("name", "spec", "method", "trials", "seeds", "prune", "schedule")


def read_sweep(home: Path) -> Sweep:
    """Returns the sweep of a folder.

    Raises:
      ClipinError: the folder holds none, or its file is damaged.
    """
    path = home / FILE
    if not path.is_file():
        raise ClipinError(f"{home} is no folder of a sweep: it has no {FILE}")
    try:
        content = json.loads(path.read_text())
        axes = {
            key: Choices(tuple(axis)) if isinstance(axis, list) else Range(**axis)
            for key, axis in content["axes"].items()
        }
        return Sweep(
            **{key: content[key] for key in _PLAIN},
            base=from_json(json.dumps(content["base"])).lock(),
            space=Space(axes, tuple(content["shared"])),
            goals=tuple(Goal(*goal) for goal in content["goals"]),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise ClipinError(f"{path} is damaged: {error}") from error


def open_home(sweep: Sweep, home: Path) -> None:
    """Writes the sweep into its folder; makes the folder if it is not there.

    Other points of the same config and metric may share a folder. What a search has
    learned holds for its own space.

    Raises:
      ClipinError: the folder holds another sweep, or cannot be made.
    """
    check_home(sweep, home)
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ClipinError(
            f"cannot make {home}: {error.strerror}; choose another --workdir"
        ) from error
    write_file(home / FILE, sweep.to_json())


def check_home(sweep: Sweep, home: Path) -> None:
    """Checks that a folder holds no other sweep.

    Raises:
      ClipinError: it does.
    """
    if not (home / FILE).is_file():
        return
    there = read_sweep(home)
    keys = ["spec", "goals", "schedule"]
    if sweep.has_journal or there.has_journal:
        keys += ["space", "seeds", "method", "prune", "base"]
    for key in keys:
        before, now = getattr(there, key), getattr(sweep, key)
        if key == "base":
            before, now = config_hash(before), config_hash(now)
        if before != now:
            names = {"goals": "metric", "space": "keys or ranges", "spec": "config"}
            raise ClipinError(
                f"{home} holds a sweep with another {names.get(key, key)}: choose "
                "another --workdir, or repeat the command that made it"
            )


def run_hash(config: ConfigDict, *, length_counts: bool) -> str:
    """Returns the name of a run's folder: equal where the trained model is, and scores.

    Args:
      config: of the run; keys that change neither model nor data do not count.
      length_counts: whether `total_steps` counts.
    """
    free = tuple(key for key in FREE_KEYS if key != "evals.")
    if not length_counts:
        names = ("total_steps", *followers(config, "total_steps"))
        free += tuple(f"{name}." for name in names)
    flat: Mapping[str, Any] = flatten(resolve(with_defaults(config)))
    counted = {k: v for k, v in flat.items() if not f"{k}.".startswith(free)}
    text = json.dumps(counted, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def best_command(sweep: Sweep, assignment: Assignment) -> str:
    """Returns the command that trains a point anew."""
    overrides = [*sweep.space.fixed, *override_texts(assignment)]
    words = ["clipin", "train", sweep.spec, *overrides]
    return shlex.join([*words, "--workdir", f"runs/{sweep.name}_best"])


def override_texts(assignment: Assignment) -> list[str]:
    """Returns a point as overrides."""
    return [f"{key}={value}" for key, value in assignment.items()]


def shorten_key(key: str) -> str:
    """Returns the last word of a key, or the last two where one says little."""
    *above, last = key.split(".")
    vague = above and last in (
        "peak",
        "value",
        "name",
        "type",
        "weight",
        "start",
        "end",
    )
    return f"{above[-1]}.{last}" if vague else last
