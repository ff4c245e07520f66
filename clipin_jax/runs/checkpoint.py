"""Saves and restores the train state of a run, by orbax.

Each `<folder>/<step>/` has the arrays, written by orbax, and `manifest.json`: the
position in the data, and a checksum of every file. The manifest is written before the
folder gets its final name, so a folder without it is incomplete. `scores.json` follows
when the state has been evaluated.
"""

import contextlib
import logging
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from clipin_jax.core.parameter_paths import path_name
from clipin_jax.errors import ClipinError, RetryableError, did_you_mean
from clipin_jax.runs import checkpoint_checksums as checksums
from clipin_jax.runs.checkpoint_checksums import DamageError
from clipin_jax.runs.checkpoint_failures import failure_reason, silence_orbax
from clipin_jax.runs.checkpoint_retention import Retention

OPTIMIZER = "opt_state/"  # begins the names of arrays that only training needs
_log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run. Every process makes the same calls.

    Attributes:
      longest_save: seconds from the start of a save until it was complete.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        every_steps: int = 0,
        keep_last: int = 1,
        keep_every_steps: int = 0,
        best_metric: str = "",
        best_mode: str = "max",
        read_only: bool = False,
    ):
        """Opens a folder of checkpoints; removes incomplete ones.

        Args:
          folder: created if it does not exist, unless `read_only`.
          every_steps: `save` writes at its multiples; 0 to write only when forced.
          keep_last: how many of the newest to keep, at least 1.
          keep_every_steps: steps whose multiples are kept; 0 for none.
          best_metric: metric whose best checkpoint is kept; "" for none.
          best_mode: "max" or "min".
          read_only: write and remove nothing, to read a run while it trains.

        Raises:
          ClipinError: an argument is out of range, or there is no folder to read.
        """
        self._folder = Path(folder).absolute()
        self._every_steps = every_steps
        self._best_metric = best_metric
        self._retention = Retention(keep_last, keep_every_steps, best_mode)
        self._facts: dict[str, Any] = {}
        self._failed = False
        self.longest_save, self._save_began = 0.0, 0.0
        if read_only and not self._folder.is_dir():
            raise ClipinError(f"no checkpoints: {self._folder} does not exist")
        silence_orbax()
        with self._explained("opened"):
            self._manager = self._open(read_only)
        for step in self._manager.all_steps() if best_metric else ():
            scores = checksums.read_scores(self._step_folder(step)) or {}
            self._rank(step, scores.get(best_metric))

    def save(
        self,
        step: int,
        state: Any,
        data_state: Mapping[str, Any],
        force: bool = False,
    ) -> bool:
        """Starts to save in the background; an existing step is not written again.

        Args:
          step: steps taken.
          state: a pytree of jax arrays; they may be donated once this returns.
          data_state: the position in the data, a small dict that JSON can write.
          force: whether to save even if `every_steps` does not divide the step.

        Returns:
          Whether a save was started.

        Raises:
          ClipinError: this save, or the one before it in the background, failed. The
            other checkpoints are untouched.
        """
        if not (force or (self._every_steps and step % self._every_steps == 0)):
            return False
        self.wait()
        if step in self._manager.all_steps():
            if step not in self._retention.damaged:
                return False
            self._manager.delete(step)
            self._retention.damaged.discard(step)
        flat = _flat(state)
        self._save_began = time.monotonic()
        self._facts = {
            "step": step,
            "data_state": dict(data_state),
            "arrays": _shapes(flat),
        }
        with self._explained(f"saved at step {step}"):
            items = ocp.args.Composite(state=ocp.args.PyTreeSave(flat))
            return self._manager.save(step, args=items, force=True)

    def add_scores(self, step: int, scores: Mapping[str, float]) -> None:
        """Adds the scores of a saved step; removes checkpoints that lost their rank.

        Raises:
          ClipinError: this, or the save in the background, failed.
        """
        self.wait()
        if step not in self._manager.all_steps():
            return
        self._rank(step, self._best_score(scores))
        with self._explained(f"given scores at step {step}"):
            if jax.process_index() == 0:
                checksums.write_scores(self._step_folder(step), scores)
            steps = self._manager.all_steps()
            for lost in sorted(set(steps) - self._retention.kept(steps)):
                if lost not in self._retention.damaged:
                    self._manager.delete(lost)

    def has_scores(self, step: int) -> bool:
        """Whether the evaluation of a saved step was completed."""
        return checksums.read_scores(self._step_folder(step)) is not None

    def restore_latest(self, abstract_state: Any) -> tuple[Any, dict, int] | None:
        """Restores the newest checkpoint that is not damaged.

        Args:
          abstract_state: a pytree of `jax.ShapeDtypeStruct` with shardings. Without
            arrays in `opt_state`, those of the checkpoint are not read.

        Returns:
          (state, data_state, step); None if there is no checkpoint.

        Raises:
          ClipinError: the checkpoint is of another config, or all are damaged.
        """
        self.wait()  # a checkpoint that is still being written has no checksums yet
        reasons = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                facts = self._verified_facts(step)
            except DamageError as error:
                reasons[step] = str(error)
                self._retention.damaged.add(step)
                continue
            self._warn_of_damage(reasons, used=step)
            return *self._read_arrays(step, facts, abstract_state), step
        if reasons:
            raise ClipinError(
                f"every checkpoint in {self._folder} is damaged ({_join(reasons)}): "
                "remove the folder to start from the beginning"
            )
        return None

    def restore(self, step: int, abstract_state: Any) -> tuple[Any, dict]:
        """Restores one checkpoint as (state, data_state).

        Args:
          step: its step.
          abstract_state: as for `restore_latest`.

        Raises:
          ClipinError: it does not exist, is damaged, or is of another config.
        """
        self.wait()
        steps = sorted(self._manager.all_steps())
        if step not in steps:
            raise ClipinError(
                f"no checkpoint of step {step} in {self._folder}: there are "
                f"{', '.join(map(str, steps)) or 'none'}"
            )
        try:
            facts = self._verified_facts(step)
        except DamageError as error:
            raise ClipinError(
                f"checkpoint {self._step_folder(step)}: {error}"
            ) from error
        return self._read_arrays(step, facts, abstract_state)

    def latest_step(self) -> int | None:
        """Returns the newest step that is not known to be damaged, or None."""
        good = set(self._manager.all_steps()) - self._retention.damaged
        return max(good, default=None)

    def wait(self) -> None:
        """Waits for the save in the background. Raises ClipinError if it failed."""
        with self._explained("saved"):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the save, then releases threads. Raises a failure only once."""
        if self._failed:
            with contextlib.suppress(Exception):
                self._manager.close()
            return
        with self._explained("saved"):
            self._manager.close()

    def _open(self, read_only: bool) -> ocp.CheckpointManager:
        if not read_only:
            self._folder.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._retention,
            async_options=ocp.AsyncOptions(
                post_finalization_callback=self._write_checksums
            ),
            cleanup_tmp_directories=not read_only,
            create=False,
            read_only=read_only,
            lightweight_initialize=True,  # tolerates a damaged metadata file
        )
        return ocp.CheckpointManager(self._folder, options=options)

    def _write_checksums(self) -> None:
        """Writes checksums; orbax calls it before the folder gets its final name."""
        [folder] = self._folder.glob(f"{self._facts['step']}.*")
        checksums.write_checksums(folder, self._facts)
        took = time.monotonic() - self._save_began
        self.longest_save = max(self.longest_save, took)

    def _verified_facts(self, step: int) -> dict[str, Any]:
        """Returns the facts of an undamaged checkpoint.

        Raises:
          DamageError: a process detected damage; raised by every process.
        """
        # One process reads all files to compare checksums, the others their facts.
        first = jax.process_index() == 0
        read = checksums.read_verified_facts if first else checksums.read_facts
        facts, damage = {}, None
        try:
            facts = read(self._step_folder(step))
        except DamageError as error:
            damage = error
        if jax.process_count() > 1:
            any_damage = multihost_utils.process_allgather(np.asarray(bool(damage)))
            if np.any(any_damage):
                damage = damage or DamageError("another process found it damaged")
        if damage:
            raise damage
        return facts

    def _read_arrays(
        self, step: int, facts: dict[str, Any], abstract_state: Any
    ) -> tuple[Any, dict]:
        flat, saved = _flat(abstract_state), facts["arrays"]
        if not any(name.startswith(OPTIMIZER) for name in flat):
            saved = {k: v for k, v in saved.items() if not k.startswith(OPTIMIZER)}
        with self._explained(f"read at step {step}"):
            self._check_shapes(step, saved, _shapes(flat))
            placed = ocp.checkpoint_utils.construct_restore_args(flat)
            restore = ocp.args.PyTreeRestore(
                flat, restore_args=placed, partial_restore=True
            )
            items = ocp.args.Composite(state=restore)
            arrays = self._manager.restore(step, args=items)["state"]
        treedef = jax.tree.structure(abstract_state)
        return treedef.unflatten([arrays[name] for name in flat]), facts["data_state"]

    def _warn_of_damage(self, reasons: dict[int, str], used: int) -> None:
        if reasons and jax.process_index() == 0:
            _log.warning(
                "damaged checkpoints in %s (%s): going back to the one of step %d",
                self._folder,
                _join(reasons),
                used,
            )

    def _check_shapes(
        self, step: int, saved: dict[str, str], expected: dict[str, str]
    ) -> None:
        names = sorted(expected | saved)
        differing = [name for name in names if expected.get(name) != saved.get(name)]
        if differing:
            name = differing[0]
            raise ClipinError(
                f"checkpoint {self._step_folder(step)} is of another config: {name} is "
                f"{saved.get(name, 'absent')} there and {expected.get(name, 'absent')} "
                f"here ({len(differing)} arrays differ): use that run's config, or "
                "another run folder"
            )

    def _best_score(self, scores: Mapping[str, float]) -> float | None:
        if not self._best_metric or not scores:
            return None
        if self._best_metric not in scores:
            _log.warning(
                "checkpoint.best_metric %r is not among the scores: %s",
                self._best_metric,
                did_you_mean(self._best_metric, scores),
            )
            return None
        return float(scores[self._best_metric])

    def _rank(self, step: int, score: float | None) -> None:
        if score is not None and math.isfinite(score):
            self._retention.scores[step] = score

    def _step_folder(self, step: int) -> Path:
        return self._folder / str(step)

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Turns errors of orbax into a RetryableError in one line."""
        try:
            yield
        except ClipinError:
            raise
        except Exception as error:  # orbax and tensorstore raise many kinds
            self._failed = True
            raise RetryableError(
                f"a checkpoint in {self._folder} could not be {what}: "
                f"{failure_reason(error, self._folder)}. The others are untouched: the "
                "same command goes on from the newest"
            ) from error


def _flat(tree: Any) -> dict[str, Any]:
    """Returns path -> leaf. Paths on disk do not depend on classes of the package."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {path_name(path): leaf for path, leaf in leaves}


def _shapes(flat: dict[str, Any]) -> dict[str, str]:
    """Returns path -> dtype and shape, such as "float32[64, 16]"."""
    return {name: f"{x.dtype}{list(x.shape)}" for name, x in flat.items()}


def _join(reasons: dict[int, str]) -> str:
    return "; ".join(f"step {step}: {reason}" for step, reason in reasons.items())
