"""Saving and restoring a run. The only file that knows orbax.

Each `<folder>/<step>/` holds the arrays, written by orbax, and a manifest: the data
position, the score, and a checksum of every file. The manifest is written before the
folder gets its final name, so a folder without one was never finished.
"""

import contextlib
import errno
import functools
import logging
import math
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from clipin_jax.core.parameter_paths import path_name
from clipin_jax.core.state import TrainState
from clipin_jax.errors import ClipinError, did_you_mean
from clipin_jax.runs import checkpoint_manifest as manifest
from clipin_jax.runs.checkpoint_retention import Retention

_log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run. Every process makes the same calls."""

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
        """Open a folder of checkpoints; what an earlier crash left half is removed.

        Args:
          folder: made if it does not exist, unless `read_only`.
          every_steps: `save` writes at its multiples; 0 for only when forced.
          keep_last: how many of the newest stay, at least 1.
          keep_every_steps: those at its multiples stay for ever; 0 for none.
          best_metric: the best by this metric stays too; "" for none.
          best_mode: "max" or "min".
          read_only: write and remove nothing, so that a run may be looked at while
            it trains.

        Raises:
          ClipinError: an option out of range, or no such folder to read.
        """
        self._folder = Path(folder).absolute()
        self._every_steps = every_steps
        self._best_metric = best_metric
        self._retention = Retention(keep_last, keep_every_steps, best_mode)
        self._facts: dict[str, Any] = {}
        self._failed = False
        if read_only and not self._folder.is_dir():
            raise ClipinError(f"no checkpoints: {self._folder} does not exist")
        _quiet_orbax()
        with self._explained("opened"):
            self._manager = self._open(read_only)
        for step in self._manager.all_steps():
            with contextlib.suppress(OSError, ValueError, KeyError):
                self._note_score(step, manifest.read(self._folder / str(step)))

    def save(
        self,
        step: int,
        state: Any,
        data_state: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
        force: bool = False,
    ) -> bool:
        """Start to save, in the background; whether there was something to do.

        The arrays may be donated as soon as this returns. A step that is there already
        is not written again.

        Args:
          step: steps taken.
          state: a pytree of jax arrays.
          data_state: a small dict that JSON can hold.
          metrics: the evaluations of this step, if there were any.
          force: save also when `every_steps` does not divide the step.

        Raises:
          ClipinError: this save, or the last one in the background, failed. The
            checkpoints before it are untouched.
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
        self._facts = {
            "step": step,
            "score": self._score(metrics),
            "data_state": dict(data_state),
            "arrays": _describe(flat),
        }
        self._note_score(step, self._facts)
        with self._explained(f"saved at step {step}"):
            items = ocp.args.Composite(state=ocp.args.StandardSave(flat))
            return self._manager.save(step, args=items, force=True)

    def restore_latest(self, abstract_state: Any) -> tuple[Any, dict, int] | None:
        """The newest good checkpoint, as (state, data_state, step); None if none.

        Args:
          abstract_state: the state's tree of jax.ShapeDtypeStruct, with shardings.

        Raises:
          ClipinError: of another config, or all are damaged.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        reasons = {}
        for step in steps:
            reasons[step] = self._damage(step)
            if not reasons[step]:
                self._warn_of_damaged(reasons, step)
                return *self.restore(step, abstract_state), step
            self._retention.damaged.add(step)
        if steps:
            raise ClipinError(
                f"every checkpoint in {self._folder} is damaged ({_join(reasons)}): "
                "remove the folder to start from the beginning"
            )
        return None

    def restore(self, step: int, abstract_state: Any) -> tuple[Any, dict]:
        """One checkpoint, as (state, data_state), placed as `abstract_state` says.

        Raises:
          ClipinError: not there, damaged, or of another config.
        """
        steps = sorted(self._manager.all_steps())
        if step not in steps:
            raise ClipinError(
                f"no checkpoint of step {step} in {self._folder}: there are "
                f"{', '.join(map(str, steps)) or 'none'}"
            )
        if reason := self._damage(step):
            raise ClipinError(f"checkpoint {self._folder / str(step)}: {reason}")
        flat = _flat(abstract_state)
        with self._explained(f"read at step {step}"):
            facts = manifest.read(self._folder / str(step))
            self._check_shapes(step, facts["arrays"], _describe(flat))
            items = ocp.args.Composite(state=ocp.args.StandardRestore(flat))
            arrays = self._manager.restore(step, args=items)["state"]
        treedef = jax.tree.structure(abstract_state)
        return treedef.unflatten([arrays[name] for name in flat]), facts["data_state"]

    def latest_step(self) -> int | None:
        """The newest step that is not known to be damaged, None if there is none."""
        good = set(self._manager.all_steps()) - self._retention.damaged
        return max(good, default=None)

    def wait(self) -> None:
        """Wait for the save in the background. Raises ClipinError if it failed."""
        with self._explained("saved"):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait, then release threads. Does not repeat a failure that was raised."""
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
            async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
            cleanup_tmp_directories=not read_only,
            create=False,
            read_only=read_only,
            lightweight_initialize=True,  # a damaged metadata file must not stop us
        )
        return ocp.CheckpointManager(self._folder, options=options)

    def _seal(self) -> None:
        """Called by orbax, in its thread, before the folder gets its final name."""
        [folder] = self._folder.glob(f"{self._facts['step']}.*")
        manifest.write(folder, self._facts)

    def _damage(self, step: int) -> str:
        """What is wrong with a checkpoint, "" if nothing; process 0 looks for all."""
        reason = ""
        if jax.process_index() == 0:
            reason = manifest.find_damage(self._folder / str(step))
        if jax.process_count() > 1:
            bad = multihost_utils.broadcast_one_to_all(np.asarray(bool(reason)))
            reason = reason or ("damaged, says process 0" if bad else "")
        return reason

    def _warn_of_damaged(self, reasons: dict[int, str], used: int) -> None:
        damaged = {step: reason for step, reason in reasons.items() if reason}
        if damaged and jax.process_index() == 0:
            _log.warning(
                "damaged checkpoints in %s (%s): going back to the one of step %d",
                self._folder,
                _join(damaged),
                used,
            )

    def _check_shapes(
        self, step: int, there: dict[str, str], here: dict[str, str]
    ) -> None:
        names = sorted(here | there)
        differing = [name for name in names if here.get(name) != there.get(name)]
        if differing:
            name = differing[0]
            raise ClipinError(
                f"checkpoint {self._folder / str(step)} is of another config: {name} "
                f"is {there.get(name, 'absent')} there and {here.get(name, 'absent')} "
                f"here ({len(differing)} arrays differ): use that run's config, or "
                "another run folder"
            )

    def _score(self, metrics: Mapping[str, float] | None) -> float | None:
        if not self._best_metric or not metrics:
            return None
        if self._best_metric not in metrics:
            _log.warning(
                "checkpoint.best_metric %r was not measured: %s",
                self._best_metric,
                did_you_mean(self._best_metric, metrics),
            )
            return None
        return float(metrics[self._best_metric])

    def _note_score(self, step: int, facts: dict[str, Any]) -> None:
        score = facts["score"]
        if score is not None and math.isfinite(score):
            self._retention.scores[step] = score

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except ClipinError:
            raise
        except Exception as error:  # orbax and tensorstore raise many kinds
            self._failed = True
            raise ClipinError(
                f"a checkpoint in {self._folder} could not be {what}: "
                f"{_reason(error, self._folder)}. The others are untouched: the same "
                "command goes on from the newest"
            ) from error


def restore_state(
    workdir: Path, step: int | None, abstract_state: TrainState
) -> tuple[TrainState, int]:
    """Returns the state of one checkpoint of a run, and its step.

    Args:
      workdir: the run's folder; it may be training at the same time.
      step: which checkpoint; the newest good one if None.
      abstract_state: the state's tree of jax.ShapeDtypeStruct, with shardings.

    Raises:
      ClipinError: there is no such checkpoint, or it is of another config.
    """
    checkpoints = Checkpoints(workdir / "checkpoints", read_only=True)
    with contextlib.closing(checkpoints):
        if step is not None:
            return checkpoints.restore(step, abstract_state)[0], step
        restored = checkpoints.restore_latest(abstract_state)
    if restored is None:
        raise ClipinError(f"{workdir} has no checkpoint yet")
    state, _, step = restored
    return state, step


def _flat(tree: Any) -> dict[str, Any]:
    """Path -> leaf: what is on disk does not depend on our classes."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {path_name(path): leaf for path, leaf in leaves}


def _reason(error: BaseException, folder: Path) -> str:
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space" in str(error)
    if full:
        free = shutil.disk_usage(folder).free / 1e6
        return f"the disk is full ({free:.0f} MB free), make room"
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"


def _describe(flat: dict[str, Any]) -> dict[str, str]:
    return {name: f"{x.dtype}{list(x.shape)}" for name, x in flat.items()}


def _join(reasons: dict[int, str]) -> str:
    return "; ".join(f"step {step}: {reason}" for step, reason in reasons.items())


@functools.cache
def _quiet_orbax() -> None:
    """Orbax tells of a failure in tracebacks of its threads; we say it in one line."""
    logging.getLogger("absl").addFilter(
        lambda record: "orbax" not in Path(record.pathname).parts
    )
    report = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        # Writes that were under way when another one failed return to a closed loop.
        if str(unraisable.exc_value) != "Event loop is closed":
            report(unraisable)

    sys.unraisablehook = hook
