"""Profiles some steps of a run: a trace for xprof and TensorBoard in its folder."""

import importlib.metadata
import re
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax

from clipin_jax.errors import ClipinError, explained, shorten

FOLDER = "profile"  # in the run's folder
# The first step compiles, and the second one waits for what was left to do.
WARM_UP_STEPS = 2
_FORM = re.compile(r"(?:(\d{1,18}):)?(\d{1,18})")


class ProfiledSteps(NamedTuple):
    """The steps to profile.

    Attributes:
      first, last: of the run, counted from 1; both are profiled. A `first` of 0 stands
        for `last` steps after those that warm up.
    """

    first: int
    last: int

    def after(self, step: int) -> "ProfiledSteps":
        """Returns the steps of a start of the run; step: number taken before."""
        if self.first:
            return ProfiledSteps(max(self.first, step + 1), self.last)
        first = step + WARM_UP_STEPS + 1
        return ProfiledSteps(first, first + self.last - 1)

    def __str__(self) -> str:
        """As `parse_steps` reads it."""
        return f"{self.first}:{self.last}" if self.first else str(self.last)


NOTHING = ProfiledSteps(1, 0)


def parse_steps(text: str, total_steps: int) -> ProfiledSteps:
    """Reads which steps to profile.

    Args:
      text: `FIRST:LAST`, steps of the run, or `COUNT`, that many steps after the first
        ones of this start; "" for none.
      total_steps: of the run.

    Raises:
      ClipinError: it is neither, or no step of the run; or jax's profiler would end
        this process.
    """
    if not text:
        return NOTHING
    match = _FORM.fullmatch(text.strip())
    steps = ProfiledSteps(int(match[1] or 0), int(match[2])) if match else None
    named = match is not None and match[1] is not None
    if steps is None or not (1 if named else 0) <= steps.first <= steps.last > 0:
        raise ClipinError(
            f"--profile is {shorten(repr(text))}: give the first and the last step to "
            "profile, such as 10:15, or how many steps, such as 5"
        )
    if steps.first > total_steps:
        raise ClipinError(
            f"--profile is {text}, but the run ends with step {total_steps}: give "
            "steps before that"
        )
    _check_plugins()
    return steps


class Log(Protocol):
    """What the profiler needs of the log of a run."""

    def print_line(self, text: str) -> None:
        """Prints a line."""

    def restart_timing(self) -> None:
        """Excludes what took time until now from the figures."""


class Profiler:
    """Traces the steps of a run that were asked for.

    Before the first of them and after the last one it waits for the devices, so that
    the trace has whole steps.
    """

    def __init__(
        self,
        steps: ProfiledSteps,
        workdir: Path,
        run_name: str,
        log: Log,
        *,
        step: int,
    ):
        """Starts no trace yet.

        Args:
          steps: from `parse_steps`.
          workdir: the run's folder on this machine.
          run_name: the path or URL by which the user knows it.
          log: of the run.
          step: number of steps taken before.
        """
        self._asked, self._steps = steps, steps.after(step)
        self._folder, self._run_name = workdir / FOLDER, run_name
        self._log = log
        self._first = 0  # of the trace that is being made; 0 for none
        self._newest = step
        self._is_told = steps == NOTHING
        if not self._is_told and self._steps.first > self._steps.last:
            self._tell(f"not profiled, as this start begins after step {step}")

    def before(self, step: int, state: Any) -> None:
        """Starts the trace if this step is the first.

        Args:
          step: that comes next, counted from 1.
          state: the result of the one before.
        """
        self._newest = step
        first, last = self._steps
        if step != first or first > last:
            return
        jax.block_until_ready(state)
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # a trace of every call slows the host
        options.session_id = f"steps_{first}_{last}"  # the same in every process
        with explained(f"--profile {self._asked} could not start a trace"):
            jax.profiler.start_trace(self._folder, profiler_options=options)
        self._first = step
        self._log.restart_timing()

    def after(self, step: int, state: Any) -> None:
        """Writes the trace if this step is the last.

        Args:
          step: that was taken, counted from 1.
          state: its result.
        """
        if not self._first or step != self._steps.last:
            return
        jax.block_until_ready(state)
        self._write()
        self._log.restart_timing()

    def close(self) -> None:
        """Writes a trace that the end of the run cuts short; tells if there is none."""
        if self._first:
            self._write()
        elif not self._is_told:
            self._tell(
                f"not profiled, as this start ended with step {self._newest}, before "
                f"step {self._steps.first}"
            )

    def _write(self) -> None:
        first, self._first = self._first, 0
        with explained(f"--profile {self._asked} could not write a trace"):
            jax.profiler.stop_trace()
        self._tell(
            f"steps {first} to {self._newest} are in {self._run_name}/{FOLDER}; look "
            f"with: xprof --logdir {self._run_name}/{FOLDER}"
        )

    def _tell(self, text: str) -> None:
        self._is_told = True
        self._log.print_line(f"clipin: --profile {self._asked}: {text}")


def _check_plugins() -> None:
    """Refuses to profile beside a TPU compiler of another version, without a TPU.

    jax loads that compiler on any machine where nothing names the platform, and its
    profiler ends the process on one whose interface has another size.
    """
    platforms = _platforms()
    if (platforms and "tpu" not in platforms) or jax.default_backend() == "tpu":
        return
    try:
        installed = importlib.metadata.version("libtpu")
    except importlib.metadata.PackageNotFoundError:
        return
    needed = _needed_libtpu()
    if needed and not f"{installed}.".startswith(f"{needed}."):
        raise ClipinError(
            f"--profile: jax would end this process, as it needs libtpu {needed} and "
            f"finds {installed}: set JAX_PLATFORMS={jax.default_backend()}, or "
            f"pip install 'libtpu=={needed}.*'"
        )


def _platforms() -> str:
    """Returns the platforms that JAX_PLATFORMS allows, "" for all."""
    return jax.config.jax_platforms or ""  # pyright: ignore[reportAttributeAccessIssue]


def _needed_libtpu() -> str:
    """Returns the version that jax asks for on a TPU, such as 0.0.42; "" if unknown."""
    requirements = importlib.metadata.requires("jax") or []
    versions = (re.match(r"libtpu==([\d.]+)\.\*", text) for text in requirements)
    return next((match[1] for match in versions if match), "")
