"""The training loop: data, step, log, evaluate, save, until the end or an interrupt."""

import contextlib
import dataclasses
import functools
import math
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from clipin_jax.config import check_keys, check_lists, with_defaults
from clipin_jax.core.state import TrainState
from clipin_jax.data.pipeline import TrainBatches
from clipin_jax.errors import DONE, REQUEUE, ClipinError
from clipin_jax.evaluators import make_evaluators
from clipin_jax.evaluators.base import check_best_metric, shown_figures
from clipin_jax.inference.build import make_encoder
from clipin_jax.plan.devices import silence_compiler_without_tpu
from clipin_jax.processes.joined import common_stop, of_first
from clipin_jax.registry import check_arguments
from clipin_jax.report.run_report.saved_examples import save_examples
from clipin_jax.runs.build import build_experiment
from clipin_jax.runs.checkpoint import Checkpoints
from clipin_jax.runs.checkpoint_retention import Retention
from clipin_jax.runs.folder import is_finished, open_folder, process_file, write_file
from clipin_jax.runs.goodput import Goodput
from clipin_jax.runs.interrupt import Interrupt, Interrupted, catch_interrupt
from clipin_jax.runs.loggers.run_loggers import RunLoggers, run_facts
from clipin_jax.runs.owner import own_folder
from clipin_jax.runs.process_checks import check_command, check_data
from clipin_jax.runs.run_copy import RunCopy, working_copy
from clipin_jax.runs.train_program import compile_together, jit_health, jit_train_step
from clipin_jax.runs.value_checks import check_values, check_vocabulary
from clipin_jax.training.evaluate import (
    Watch,
    evaluate_state,
    is_due,
    never_stop,
    write_figures,
    write_results,
)
from clipin_jax.training.initial_state import initial_state
from clipin_jax.training.measures.chip_use import ChipUse
from clipin_jax.training.measures.profiling import ProfiledSteps, Profiler, parse_steps
from clipin_jax.training.nonfinite import NonfiniteSteps
from clipin_jax.training.run_log import RunLog
from clipin_jax.training.session import MakeView, Session
from clipin_jax.training.step_inputs import StepInputs
from clipin_jax.training.time_limit import check_time, needed_seconds, stop_before

_NOTICE = "\nclipin: stopping after this step; Ctrl-C stops at once\n"
_AT_ONCE = (
    "stopped at once, without saving; the same command goes on from the newest "
    "checkpoint"
)


def train(
    config: ConfigDict,
    workdir: str | Path,
    *,
    profile: str = "",
    watch: Watch = never_stop,
    end: float = math.inf,
    make_view: MakeView | None = None,
) -> int:
    """Trains until `total_steps`, from the newest checkpoint if there is one.

    Args:
      config: a locked config; `configs/clip.py` shows every key.
      workdir: the run's folder, by path or URL; created if it does not exist, else
        resumed.
      profile: steps to profile, see `profiling.parse_steps`; no part of the run.
      watch: called after each evaluation but the last; True stops the run as SIGTERM
        does.
      end: when it must have ended, by `time.monotonic`: it stops early enough to save.
      make_view: makes what shows the run; None for the terminal.

    Returns:
      0 when done; 75 if SIGTERM, `watch` or `end` stopped it, with everything saved.

    Raises:
      ClipinError: an error in the config, the data, the folder or the disk, or too many
        steps in a row that are not finite.
      KeyboardInterrupt: Ctrl-C stopped it, with everything saved.
    """
    silence_compiler_without_tpu()
    check_command(config, workdir)
    profiled = parse_steps(profile, config.total_steps)
    with (
        catch_interrupt(_NOTICE, _AT_ONCE) as interrupt,
        working_copy(workdir) as run,
    ):
        options = dict(watch=watch, end=end, make_view=make_view)
        code = _train(config, run, interrupt, profiled, session_options=options)
    if code == REQUEUE and interrupt.signal == signal.SIGINT:
        raise KeyboardInterrupt  # so that Ctrl-C ends a loop over runs, too
    return code


def _train(
    config: ConfigDict,
    run: RunCopy,
    interrupt: Interrupt,
    profiled: ProfiledSteps,
    *,
    session_options: Mapping[str, Any],
) -> int:
    if of_first("finished", is_finished(config, run.folder, may_go_on=True)):
        print(f"clipin: {run.name} is already done", file=sys.stderr)
        return DONE
    with contextlib.ExitStack() as stack:
        session = _open_session(config, run, stack)
        session = dataclasses.replace(session, **session_options)
        stack.enter_context(jax.set_mesh(session.experiment.mesh))
        return run_loop(session, interrupt, profiled)


def run_loop(session: Session, interrupt: Interrupt, profiled: ProfiledSteps) -> int:
    """Takes the steps of a run; returns its exit code.

    The host is one step ahead of the devices: it fetches the next batch while they
    compute, and reads the metrics of a step after the next one has started. A step gets
    what is on the devices: a transfer that nobody asked for is an error.
    """
    experiment, config = session.experiment, session.experiment.config
    train_step, health_fn = jit_train_step(experiment), jit_health(experiment)
    state, step = _restore_or_init(session)
    first_step = step + 1
    inputs = StepInputs(experiment, session.batches, session.workdir)
    log = _start_log(session, step, train_step)
    profiler = Profiler(profiled, session.workdir, session.name, log, step=step)
    transfers = "allow"  # while the step compiles
    limit = config.max_nonfinite_steps
    nonfinite = NonfiniteSteps(limit, session.workdir, log.print_line)
    reserve = functools.partial(
        needed_seconds, session.goodput, session.checkpoints, experiment.abstract_state
    )
    with (
        contextlib.closing(log),
        contextlib.closing(profiler),
        stop_before(session.end, interrupt, reserve),
        common_stop(interrupt.is_set) as must_stop,
    ):
        evaluate = functools.partial(_evaluate, session, log, interrupt, must_stop)
        lacks_scores = not session.checkpoints.has_scores(step)
        if step < config.total_steps and lacks_scores and session.due(step):
            _save(session, state, step, force=True)
            evaluate(state, step)  # step 0, or the run was stopped in this evaluation
        while not (stop := must_stop(step)) and step < config.total_steps:
            profiler.before(step + 1, state)
            with jax.profiler.StepTraceAnnotation("train", step_num=step + 1):
                # Data.
                with log.waiting_for_data():
                    indices, batch = inputs.next_batch(step)
                # Step.
                hyper = inputs.hyper(step)
                if step < first_step:
                    train_step = compile_together(train_step, state, batch, hyper)
                log.step_starts()
                with jax.transfer_guard(transfers):
                    state, metrics = train_step(state, batch, hyper)
            step += 1
            log.watch(metrics)
            nonfinite.check()  # waits for the previous step
            nonfinite.watch(step, indices, metrics)
            # Log.
            is_last = step == config.total_steps
            if is_last or is_due(step, config.log_every_steps):
                nonfinite.check()
                log.write_metrics(step, metrics)
            log.show_progress(step)
            profiler.after(step, state)
            if is_due(step, config.health_every_steps):
                log.write_health(step, health_fn(state, batch))
            # Save, then evaluate; after the last step `_finish` does it.
            if not is_last:
                _save(session, state, step, force=bool(session.due(step)))
                evaluate(state, step)
            if step == first_step:
                log.forget_compilation()
                transfers = "disallow"
        profiler.close()
        _save(session, state, step, force=True)
        with session.goodput.spending("save"):
            session.checkpoints.wait()
        if not stop and (scores := evaluate(state, step)) is not None:
            _finish(session, log, step, scores)
            return DONE
        log.print_line(f"clipin: saved at step {step}, stopping")
        log.print_line(session.goodput.close(step))
        if step < first_step:
            check_time(session.end, reserve())
        return REQUEUE


def _open_session(
    config: ConfigDict, run: RunCopy, stack: contextlib.ExitStack
) -> Session:
    """Builds and opens all resources; the stack closes them."""
    workdir, goodput = run.folder, Goodput()
    check_keys(config)
    check_lists(config)
    experiment = build_experiment(config)
    check_values(experiment)
    batches = TrainBatches(
        config.data,
        seed=config.seed,
        batch_size=config.batch_size,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        bad_records=workdir / process_file("bad_records.jsonl"),
    )
    stack.callback(batches.close)
    check_data(batches.examples_per_epoch, batches.source.fingerprint)
    check_vocabulary(experiment.learner.towers.text, batches.tokenizer.vocab_size)
    encoder = make_encoder(config, experiment.learner, experiment.mesh)
    evaluators = make_evaluators(config.evals, encoder)
    keep, log = with_defaults(config).checkpoint, config.log.to_dict()
    check_best_metric(keep.best_metric, evaluators)
    # Check everything first: a wrong config must not leave a folder.
    check_arguments(Checkpoints, keep, "checkpoint", given=1, filled=("read_only",))
    Retention(keep.keep_last, keep.keep_every_steps, keep.best_mode)
    loggers = RunLoggers(log)
    if jax.process_index() == 0:
        stack.enter_context(own_folder(workdir))
        open_folder(config, workdir, run.name, experiment.size)
    of_first("folder", "open")  # before that no other process writes into it
    checkpoints = Checkpoints(workdir / "checkpoints", **keep)
    stack.enter_context(contextlib.closing(checkpoints))
    stack.enter_context(contextlib.closing(loggers))
    return Session(
        experiment=experiment,
        name=run.name,
        workdir=workdir,
        batches=batches,
        evaluators=evaluators,
        checkpoints=checkpoints,
        loggers=loggers,
        goodput=goodput,
    )


def _restore_or_init(session: Session) -> tuple[TrainState, int]:
    """Returns the newest checkpoint, and moves the data to its position; or step 0."""
    restored = session.checkpoints.restore_latest(session.experiment.abstract_state)
    step = restored[2] if restored else 0
    config, workdir = session.experiment.config, session.workdir
    session.loggers.init(run_facts(config, workdir, session.name, step))
    if jax.process_index() == 0:
        session.goodput.open(workdir, step)
    if restored is None:
        return initial_state(session.experiment), 0
    session.batches.set_state(restored[1])
    return restored[0], step


def _start_log(session: Session, step: int, train_step: Any) -> RunLog:
    return RunLog(
        view=session.new_view(step),
        experiment=session.experiment,
        run_name=session.name,
        loggers=session.loggers,
        goodput=session.goodput,
        batches=session.batches,
        chip_use=ChipUse(session.experiment, train_step),
        step=step,
    )


@functools.partial(jax.profiler.annotate_function, name="evaluate")
def _evaluate(
    session: Session,
    log: RunLog,
    interrupt: Interrupt,
    must_stop: Callable[[int], bool],
    state: TrainState,
    step: int,
) -> dict[str, float] | None:
    """Runs the evaluators that are due on a saved state, and adds its scores.

    A signal ends it with None, and the run evaluates when it is resumed: at once, or
    before the next evaluator where several processes stop together. Whoever watches the
    run may stop it afterwards.
    """

    def check_stop() -> None:
        if must_stop(step):
            raise Interrupted

    due = session.due(step)
    if not due:
        return {}
    log.print_line(f"clipin: evaluation at step {step}")
    try:
        # One of several processes alone must not leave the others.
        alone = jax.process_count() == 1
        with (
            session.goodput.spending("evaluate"),
            interrupt.raising() if alone else contextlib.nullcontext(),
        ):
            scores = evaluate_state(due, state, check_stop)
    except Interrupted:
        return None
    except ClipinError as error:
        raise ClipinError(
            f"{error}. The model is saved at step {step}, and the same command goes on "
            "from there: repair this, or leave the evaluation out"
        ) from error
    figures = shown_figures(due, scores)
    log.write_scores(step, scores, figures)
    if jax.process_index() == 0:
        write_figures(session.workdir, figures)
    session.checkpoints.add_scores(step, scores)
    if step < session.experiment.config.total_steps and session.watch(step, scores):
        interrupt.set(signal.SIGTERM)
    return scores


@functools.partial(jax.profiler.annotate_function, name="save")
def _save(
    session: Session, state: TrainState, step: int, *, force: bool = False
) -> None:
    """Starts to save in the background, if a save is due or forced."""
    position = session.batches.get_state()
    with session.goodput.spending("save"):
        session.checkpoints.save(step, state, position, force=force)


def _finish(
    session: Session, log: RunLog, step: int, scores: Mapping[str, float]
) -> None:
    """Writes the scores of the last step, and marks the run as done."""
    workdir, config = session.workdir, session.experiment.config
    if jax.process_index() == 0:
        write_results(
            workdir, step, config=config, evaluators=session.evaluators, scores=scores
        )
        for name, evaluator in session.evaluators.items():
            save_examples(workdir, name, evaluator)
        write_file(workdir / "DONE", "")
    log.print_line(session.goodput.close(step))
    log.print_line(f"clipin: done; for a page: clipin report {session.name}")
