"""A checkpoint on disk by its name, RUN or RUN@STEP.

RUN is the folder of a run, by path or URL. STEP is the number of steps after which the
checkpoint was written; without it, the newest undamaged one is meant. A folder whose
own name has an @ is found by that name.
"""

import dataclasses
import logging
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
from ml_collections import ConfigDict

from clipin_jax import storage
from clipin_jax.config import difference, with_defaults
from clipin_jax.core.parameter_paths import require_match
from clipin_jax.errors import ClipinError
from clipin_jax.runs import checkpoint_checksums as checksums
from clipin_jax.runs.checkpoint import OPTIMIZER
from clipin_jax.runs.folder import load_folder
from clipin_jax.runs.run_copy import CHECKPOINTS, RunCopy, open_copy

# Keys by which equal arrays are another model; those after them change only the cost.
MODEL_KEYS = ("model.", "data.tokenizer.")
COST_KEYS = ("model.attention", "model.dtype", "model.remat")
_log = logging.getLogger(__name__)


class ArrayInfo(NamedTuple):
    """The form of a saved array.

    Attributes:
      dtype: its name, such as "bfloat16".
      shape: its sizes.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of its elements."""
        return math.prod(self.shape)

    @property
    def num_bytes(self) -> int:
        """What it takes in memory."""
        return self.size * jnp.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


@dataclasses.dataclass(frozen=True)
class SavedCheckpoint:
    """A checkpoint of a run.

    Attributes:
      copy: the run's folder on this machine.
      config: of the run.
      step: of the checkpoint.
      steps: of all complete checkpoints of the run, ascending.
      arrays: name -> form, sorted by name, as `params/towers/image/patch_embed/kernel`.
    """

    copy: RunCopy
    config: ConfigDict
    step: int
    steps: tuple[int, ...]
    arrays: Mapping[str, ArrayInfo]

    @property
    def label(self) -> str:
        """RUN@STEP."""
        return f"{self.copy.name}@{self.step}"

    @property
    def folder(self) -> Path:
        """The checkpoint's folder on this machine."""
        return _step_folder(self.copy, self.step)

    @property
    def weights(self) -> dict[str, ArrayInfo]:
        """The arrays without those of the optimizer."""
        return {k: v for k, v in self.arrays.items() if not k.startswith(OPTIMIZER)}

    def only(self, pattern: str) -> "SavedCheckpoint":
        """Returns this checkpoint with those arrays whose names a pattern matches.

        Raises:
          ClipinError: it matches none, or is no regular expression.
        """
        require_match(pattern, self.arrays, f"--pattern on {self.label}")
        arrays = {k: v for k, v in self.arrays.items() if re.search(pattern, k)}
        return dataclasses.replace(self, arrays=arrays)


def open_checkpoint(name: str, *, with_arrays: bool = True) -> SavedCheckpoint:
    """Opens the checkpoint of a name.

    Args:
      name: RUN or RUN@STEP.
      with_arrays: also get its arrays onto this machine and compare their checksums.

    Raises:
      ClipinError: no such run or checkpoint, or it is damaged.
    """
    run, step = split_name(name)
    copy = open_copy(run)
    with copy.named():
        config = load_folder(copy.folder)
        folders = (copy.folder / CHECKPOINTS).glob(f"*/{checksums.NAME}")
        steps = sorted(int(x.parent.name) for x in folders if x.parent.name.isdigit())
        if not steps:
            raise ClipinError(f"{copy.name} has no checkpoint yet")
        if step is not None and step not in steps:
            raise ClipinError(
                f"no checkpoint of step {step} in {copy.name}: there are "
                f"{', '.join(map(str, steps))}"
            )
        read = _fetch_facts if with_arrays else _read_facts
        wanted = reversed(steps) if step is None else [step]
        step, facts = _first_undamaged(copy, list(wanted), read)
    forms = sorted(facts["arrays"].items())
    arrays = {name: _parse_array(text) for name, text in forms}
    return SavedCheckpoint(copy, config, step, tuple(steps), arrays)


def split_name(name: str) -> tuple[str, int | None]:
    """Returns run and step of RUN or RUN@STEP; the step is None without @STEP.

    Raises:
      ClipinError: what follows the @ is no step, and no folder has the whole name.
    """
    path = storage.full_path(name)
    run, at, step = name.rpartition("@")
    if not at or "/" in step:
        return name, None
    if not storage.is_remote(path) and Path(path).is_dir():
        return name, None
    if run and re.fullmatch("[0-9]+", step):
        return run, int(step)
    if storage.is_remote(path):
        return name, None
    raise ClipinError(f"{name} is no folder, and no RUN@STEP: STEP is a whole number")


def check_same_model(a: SavedCheckpoint, b: SavedCheckpoint) -> None:
    """Checks that the weights of two checkpoints belong to the same model.

    Raises:
      ClipinError: a key of the model or the tokenizer differs, or an array does; the
        message names the first one.
    """
    keys = difference(with_defaults(a.config), with_defaults(b.config))
    for key, (first, second) in keys.items():
        if key.startswith(MODEL_KEYS) and not key.startswith(COST_KEYS):
            raise ClipinError(
                f"{a.label} and {b.label} are different models: {key} is {first!r} in "
                f"the first and {second!r} in the second"
            )
    x, y = a.weights, b.weights
    differing = [name for name in sorted(x | y) if x.get(name) != y.get(name)]
    if differing:
        name = differing[0]
        raise ClipinError(
            f"{a.label} and {b.label} have different weights: {name} is "
            f"{x.get(name, 'absent')} in the first and {y.get(name, 'absent')} in the "
            f"second ({len(differing)} arrays differ)"
        )


def _first_undamaged(
    copy: RunCopy, steps: list[int], read: Callable[[RunCopy, int], dict[str, Any]]
) -> tuple[int, dict[str, Any]]:
    """Returns the first of some steps that can be read, and its facts."""
    reasons = []
    for step in steps:
        try:
            facts = read(copy, step)
        except checksums.DamageError as error:
            reasons.append(f"{_step_folder(copy, step)}: {error}")
            continue
        for reason in reasons:
            _log.warning("damaged checkpoint %s; using step %d", reason, step)
        return step, facts
    raise ClipinError(f"damaged checkpoint {'; '.join(reasons)}")


def _read_facts(copy: RunCopy, step: int) -> dict[str, Any]:
    return checksums.read_facts(_step_folder(copy, step))


def _fetch_facts(copy: RunCopy, step: int) -> dict[str, Any]:
    copy.fetch(step)
    return checksums.read_verified_facts(_step_folder(copy, step))


def _step_folder(copy: RunCopy, step: int) -> Path:
    return copy.folder / CHECKPOINTS / str(step)


def _parse_array(text: str) -> ArrayInfo:
    """Reads "float32[64, 16]"."""
    dtype, _, sizes = text.rstrip("]").partition("[")
    return ArrayInfo(dtype, tuple(int(size) for size in sizes.split(",") if size))
