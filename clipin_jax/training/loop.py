"""The only loop: data, step, log, evaluate, save."""

import contextlib
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from clipin_jax.core import sharding
from clipin_jax.core.state import TrainState
from clipin_jax.core.step import make_health_fn, make_train_step
from clipin_jax.data.pipeline import TrainBatches
from clipin_jax.errors import DONE, REQUEUE, ClipinError
from clipin_jax.evaluators import make_evaluators
from clipin_jax.evaluators.base import Evaluator, shown_figures
from clipin_jax.inference.encode_fns import make_encode_fns
from clipin_jax.objectives.health import collapse_warning
from clipin_jax.report.examples import PAIRS, save_pairs, save_retrievals
from clipin_jax.runs.build import Experiment, build_experiment
from clipin_jax.runs.checkpoint import Checkpoints
from clipin_jax.runs.checkpoint_retention import Retention
from clipin_jax.runs.folder import is_finished, open_folder, write_file
from clipin_jax.runs.interrupt import catch_interrupt
from clipin_jax.runs.metrics import MetricWriter
from clipin_jax.training import console
from clipin_jax.training.evaluate import evaluate_state, write_results
from clipin_jax.training.progress import Progress, Throughput

_NOTICE = "\nclipin: stopping after this step; Ctrl-C stops at once\n"
_AT_ONCE = (
    "stopped at once, without saving; the same command goes on from the newest "
    "checkpoint"
)


def train(config: ConfigDict, workdir: str | Path) -> int:
    """Trains until `total_steps`, from the newest checkpoint where there is one.

    Args:
      config: a locked config; `configs/clip.py` shows every key.
      workdir: the run's folder; made if it does not exist, resumed if it does.

    Returns:
      0 when done, 75 when stopped by SIGTERM or Ctrl-C with everything saved.

    Raises:
      ClipinError: anything that a user can mend.
    """
    workdir = Path(workdir)
    with contextlib.ExitStack() as stack:
        interrupt = stack.enter_context(catch_interrupt(_NOTICE, _AT_ONCE))
        if is_finished(config, workdir):
            print(f"clipin: {workdir} is already done", file=sys.stderr)
            return DONE
        run = build_experiment(config)
        batches = TrainBatches(
            config.data,
            seed=config.seed,
            batch_size=config.batch_size,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            bad_records=workdir / _own("bad_records.jsonl"),
        )
        stack.callback(batches.close)
        _check_vocabulary(config.model.text.vocab_size, batches.tokenizer.vocab_size)
        evaluators = make_evaluators(config, make_encode_fns(run.learner), run.mesh)
        keep = config.checkpoint
        # What is wrong with it is said before a folder is made.
        Retention(keep.keep_last, keep.keep_every_steps, keep.best_mode)
        open_folder(config, workdir)
        checkpoints = Checkpoints(workdir / "checkpoints", **keep)
        stack.enter_context(contextlib.closing(checkpoints))
        writer = MetricWriter(workdir, **config.log)
        stack.enter_context(contextlib.closing(writer))
        stack.enter_context(jax.set_mesh(run.mesh))
        loop = Loop(run, workdir, batches, evaluators, checkpoints, writer)
        return loop.run(interrupt)


def _own(name: str) -> str:
    """The name of a file that every process writes."""
    process = jax.process_index()
    return f"process_{process}_{name}" if process else name


def _check_vocabulary(model: int, tokenizer: int) -> None:
    if model < tokenizer:
        raise ClipinError(
            f"model.text.vocab_size is {model}, but the tokenizer has {tokenizer} "
            f"tokens: set it to at least {tokenizer}"
        )


class Loop:
    """One training run in progress.

    The host is one step ahead of the device: while step k runs it fetches batch k + 1,
    and it reads the metrics of a step after the next one is under way.
    """

    def __init__(
        self,
        run: Experiment,
        workdir: Path,
        batches: TrainBatches,
        evaluators: dict[str, Evaluator],
        checkpoints: Checkpoints,
        writer: MetricWriter,
    ) -> None:
        self._run, self._config, self._workdir = run, run.config, workdir
        self._batches, self._evaluators = batches, evaluators
        self._checkpoints, self._writer = checkpoints, writer
        step = make_train_step(run.learner, run.optimizer, run.views)
        outputs = run.state_sharding, sharding.replicated(run.mesh)
        self._train_step = jax.jit(step, donate_argnums=0, out_shardings=outputs)
        self._health = jax.jit(make_health_fn(run.learner, run.views))
        self._state, self._step = self._start()
        self._behind: tuple[np.ndarray, dict[str, jax.Array]] | None = None
        self._skipped: list[np.ndarray] = []  # examples of the steps skipped in a row
        self._progress = Progress(run.config.total_steps, self._step)
        self._throughput = Throughput(run.config.batch_size)
        self._compiled = False

    def _start(self) -> tuple[TrainState, int]:
        """The newest checkpoint with its place in the data, or the state of step 0."""
        restored = self._checkpoints.restore_latest(self._run.abstract_state)
        if restored is None:
            self._writer.truncate_after(0)
            return self._run.init_state(), 0
        state, data_state, step = restored
        self._batches.set_state(data_state)
        self._writer.truncate_after(step)
        return state, step

    def run(self, interrupt: threading.Event) -> int:
        """Steps until the end or an interrupt; returns the exit code."""
        examples = self._batches.examples_per_epoch
        facts = console.banner(self._run, self._workdir, examples, self._step)
        self._progress.say(f"{facts}\nclipin: compiling the first step")
        with contextlib.closing(self._progress):
            while not self._wanted(interrupt):
                if self._step == self._config.total_steps:
                    self._finish()
                    return DONE
                self._one_step()
            self._save(force=True)
            self._checkpoints.wait()
            self._progress.say(f"clipin: saved at step {self._step}, stopping")
        return REQUEUE

    def _one_step(self) -> None:
        index, batch = self._next_batch()
        self._state, metrics = self._train_step(
            self._state, batch, self._run.hyper(self._step)
        )
        self._step += 1
        self._check(behind=1)
        self._behind = index, metrics
        last = self._step == self._config.total_steps
        logged = last or self._due(self._config.log_every_steps)
        self._progress.update(self._step, self._log(metrics) if logged else {})
        if self._due(self._config.health_every_steps):
            self._log_health(batch)
        if not last:
            self._save(self._evaluate(last=False))
        if not self._compiled:
            self._compiled = True
            self._throughput.read()  # forget what is not the pace
            if self._batches.cut_captions:
                self._progress.say(console.cut_captions(self._batches.cut_captions))

    def _next_batch(self) -> tuple[np.ndarray, Any]:
        """Waits for the next batch; its examples, and the rest on the devices."""
        began = time.perf_counter()
        batch = next(self._batches)
        if self._step == 0 and jax.process_index() == 0:
            some = jax.tree.map(lambda rows: rows[:PAIRS], batch)
            save_pairs(self._workdir, self._run.views(some), self._batches.tokenizer)
        index = batch.pop("index")
        placed = sharding.put(batch, self._run.mesh)
        self._throughput.step(time.perf_counter() - began)
        return index, placed

    def _check(self, behind: int) -> None:
        """Waits for the last unread step; too many skipped in a row stop the run."""
        if self._behind is None:
            return
        index, metrics = self._behind
        self._behind = None
        skipped, step = int(metrics["skipped_in_a_row"]), self._step - behind
        if not skipped:
            self._skipped.clear()
            return
        self._skipped.append(index)
        self._progress.say(f"clipin: step {step}: not finite, update skipped")
        if skipped < self._config.max_nonfinite_steps:
            return
        path = self._workdir / "nonfinite_batches.json"
        batches = [index.tolist() for index in self._skipped]
        write_file(path, json.dumps({"step": step, "batches": batches}))
        raise ClipinError(
            f"the loss or its gradient was not finite in {skipped} steps in a row, the "
            f"last of them step {step}; nothing was updated since. The examples of "
            f"these batches are in {path} (the last begins with {batches[-1][:8]}). "
            "Look at them, or start a new run with a lower optim.learning_rate or with "
            "optim.clip_norm; the newest checkpoint holds finite numbers"
        )

    def _log(self, metrics: dict[str, jax.Array]) -> dict[str, float]:
        """Writes a step's metrics; returns the figures that the progress shows."""
        self._check(behind=0)
        numbers = {name: float(value) for name, value in metrics.items()}
        numbers["cut_captions"] = self._batches.cut_captions
        numbers["bad_records"] = self._batches.bad_records
        figures = self._throughput.read()
        values = {f"train/{k}": v for k, v in (numbers | figures).items()}
        self._writer.write(self._step, values)
        return {"loss": numbers["loss"], **figures}

    def _log_health(self, batch: Any) -> None:
        health = jax.device_get(self._health(self._state, batch))
        values = {name: float(value) for name, value in health.items()}
        self._writer.write(self._step, {f"health/{k}": v for k, v in values.items()})
        warning = collapse_warning(values)
        if warning:
            self._progress.say(f"clipin: step {self._step}: warning: {warning}")
        self._throughput.read()

    def _evaluate(self, *, last: bool) -> dict[str, float]:
        """Runs the evaluators whose turn it is; all of them at the end."""
        due = {
            name: evaluator
            for name, evaluator in self._evaluators.items()
            if last or self._due(self._config.evals[name].get("every_steps", 0))
        }
        if not due:
            return {}
        self._progress.say(f"clipin: evaluation at step {self._step}")
        values = evaluate_state(due, self._state)
        self._writer.write(self._step, values)
        self._progress.say(console.scores(values, shown_figures(due, values)))
        self._throughput.read()
        return values

    def _due(self, every: int) -> bool:
        return bool(every) and self._step % every == 0

    def _save(
        self, values: dict[str, float] | None = None, force: bool = False
    ) -> None:
        state = self._batches.get_state()
        self._checkpoints.save(self._step, self._state, state, values, force=force)

    def _wanted(self, interrupt: threading.Event) -> bool:
        """Whether to stop now: all processes agree, at a step where they log."""
        if jax.process_count() == 1:
            return interrupt.is_set()
        if not self._due(self._config.log_every_steps):
            return False
        votes = multihost_utils.process_allgather(np.array(interrupt.is_set()))
        return bool(np.any(votes))

    def _finish(self) -> None:
        values = self._evaluate(last=True)
        self._save(values, force=True)
        self._checkpoints.wait()
        if jax.process_index() == 0:
            write_results(
                self._workdir, self._step, self._config, self._evaluators, values
            )
            for name, evaluator in self._evaluators.items():
                save_retrievals(self._workdir, name, evaluator)
            write_file(self._workdir / "DONE", "")
        self._progress.say(f"clipin: done; for a page: clipin report {self._workdir}")
