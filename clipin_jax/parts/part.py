"""One part of N: given as I/N, or found from the variables of a scheduler."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from clipin_jax.errors import ClipinError, shorten

AUTO = "auto"
_SLURM = "SLURM_ARRAY_TASK_ID"
_KUBERNETES = "JOB_COMPLETION_INDEX"


class Part(NamedTuple):
    """Part `index` of `count`; parts are counted from 1."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def numbers(self, total: int) -> range:
        """Returns its share of `total` things: neighbours, numbered from 0.

        The shares of all parts differ by one at most. Some are empty if there are more
        parts than things.
        """
        start = (self.index - 1) * total // self.count
        return range(start, self.index * total // self.count)


def part_of(number: int, total: int, count: int) -> Part:
    """Returns the part of `count` whose share of `total` things has a number."""
    return Part(((number + 1) * count - 1) // total + 1, count)


def read_part(text: str, environ: Mapping[str, str] = os.environ) -> Part:
    """Returns the part that a user names.

    Args:
      text: "3/16", or "auto" in a Slurm array or an indexed Job of Kubernetes.
      environ: the variables of this process.

    Raises:
      ClipinError: it is no part, or is not known from the variables.
    """
    if text == AUTO:
        return _detect(environ)
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
    if not match:
        raise ClipinError(
            f"--part is {shorten(repr(text))}: give I/N, as in 3/16, or {AUTO}"
        )
    index, count = int(match[1]), int(match[2])
    if count < 1:
        raise ClipinError(f"--part is {text}: there must be at least 1 part, as in 1/1")
    if not 1 <= index <= count:
        raise ClipinError(
            f"--part is {text}: the parts of {count} are counted from 1 to {count}"
        )
    return Part(index, count)


def _detect(environ: Mapping[str, str]) -> Part:
    if _SLURM in environ:
        return _slurm(environ)
    if _KUBERNETES in environ:
        return _kubernetes(environ)
    raise ClipinError(
        f"--part {AUTO} needs the variable {_SLURM} of a Slurm array or {_KUBERNETES} "
        "of an indexed Job: there is neither, so give I/N, as in 3/16"
    )


def _slurm(environ: Mapping[str, str]) -> Part:
    """Returns the place of a task in its array, which need not begin at 0 or 1."""
    task, first, count = (
        _number(environ, name)
        for name in (_SLURM, "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT")
    )
    step = _number(environ, "SLURM_ARRAY_TASK_STEP", default=1)
    last = _number(environ, "SLURM_ARRAY_TASK_MAX", default=first + (count - 1) * step)
    is_range = step > 0 and (last - first) // step + 1 == count
    if not is_range or (task - first) % step or not first <= task <= last:
        raise ClipinError(
            f"--part {AUTO} needs a Slurm array that is a range, as --array=0-15: this "
            f"one has {count} tasks from {first} to {last}; give I/N, as in 3/16"
        )
    return Part((task - first) // step + 1, count)


def _kubernetes(environ: Mapping[str, str]) -> Part:
    """Returns the place of a pod in its Job, or in the Jobs of a JobSet."""
    pod, pods = _number(environ, _KUBERNETES), _number(environ, "JOB_COMPLETIONS")
    job = _number(environ, "JOB_INDEX", default=0)
    jobs = _number(environ, "REPLICATED_JOB_REPLICAS", default=1)
    if not (0 <= pod < pods and 0 <= job < jobs):
        raise ClipinError(
            f"--part {AUTO}: pod {pod} of JOB_COMPLETIONS {pods} in job {job} of "
            f"REPLICATED_JOB_REPLICAS {jobs} cannot be; set them as the Job has them"
        )
    return Part(job * pods + pod + 1, jobs * pods)


def _number(environ: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environ.get(name)
    if text is None and default is not None:
        return default
    if text is None:
        raise ClipinError(
            f"--part {AUTO} needs the variable {name}: set it, or give I/N, as in 3/16"
        )
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise ClipinError(f"{name} is {shorten(repr(text))}: it must be a number")
    return int(text)
