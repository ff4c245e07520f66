"""Decides which checkpoints to keep: the newest, every n-th step, and the best."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from clipin_jax.errors import ClipinError


@dataclasses.dataclass
class Retention:
    """Decides which steps to keep. Orbax deletes the others.

    Attributes:
      last: how many of the newest to keep, at least 1.
      every_steps: steps whose multiples are kept; 0 for none.
      mode: "max" or "min": which score is best.
      scores: step -> value of the metric, for the steps that have one.
      damaged: steps that cannot be read; the next good save deletes them.

    Raises:
      ClipinError: `last`, `every_steps` or `mode` is out of range.
    """

    last: int
    every_steps: int
    mode: str
    scores: dict[int, float] = dataclasses.field(default_factory=dict)
    damaged: set[int] = dataclasses.field(default_factory=set)

    def __post_init__(self) -> None:
        if self.last < 1:
            raise ClipinError(f"checkpoint.keep_last is {self.last}: keep at least 1")
        if self.every_steps < 0:
            raise ClipinError(
                f"checkpoint.keep_every_steps is {self.every_steps}: it must be at "
                "least 0, for none"
            )
        if self.mode not in ("max", "min"):
            raise ClipinError(
                f"checkpoint.best_mode is {self.mode!r}: use 'max' or 'min'"
            )

    def kept(self, steps: Sequence[int]) -> set[int]:
        """Returns the steps to keep."""
        good = sorted(set(steps) - self.damaged)
        kept = set(good[-self.last :])
        if self.every_steps:
            kept |= {step for step in good if step % self.every_steps == 0}
        scored = [step for step in good if step in self.scores]
        if scored:
            best = max if self.mode == "max" else min
            kept.add(best(scored, key=self.scores.__getitem__))
        return kept

    def should_preserve(
        self, checkpoints: Sequence[Any], *, context: Any
    ) -> list[bool]:
        """Returns one flag per checkpoint, as a preservation policy of orbax."""
        kept = self.kept([checkpoint.step for checkpoint in checkpoints])
        return [checkpoint.step in kept for checkpoint in checkpoints]
