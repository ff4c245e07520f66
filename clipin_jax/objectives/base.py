"""What an objective is.

An objective is a module with heads of its own (or none) and a loss:

    __call__(towers, view, features, targets, hyper, train) -> (loss, metrics)

- `towers`: the bound `TwoTowers`, for an objective that needs another pass.
- `view`, `features`: what the online branch saw and says; computed once, read by all.
- `targets`: what this objective's own `targets` returned, for the target's view.
- `hyper`: this step's numbers of this objective, one per name in `scalars`.

Three methods are optional, and their presence is the request:

- `targets(towers, view, features, train) -> pytree`: "I need the target network". It
  runs with averaged parameters and outside the gradient. Just the parameters that it
  touches are averaged.
- `predictions(features) -> dict`: what the online branch predicts, for evaluation.
- `health(features, targets) -> metrics`: numbers that show whether it is well.
"""

from typing import ClassVar

import flax.linen as nn

from clipin_jax.types import Array, Hyper


class Scalar(nn.Module):
    """One number, a parameter that exists only where it is asked for."""

    @nn.compact
    def __call__(self) -> Array:
        return self.param("value", nn.initializers.ones, ())


class Objective(nn.Module):
    """Base of all objectives: their loss weights, given or learned.

    Attributes:
      learned: names out of `scalars` that are parameters (config value `"learned"`).
        Losses are positive, so gradient descent can only shrink a learned weight:
        this is how CLIPin was released, not what we recommend.
    """

    scalars: ClassVar[tuple[str, ...]] = ("weight",)
    learned: tuple[str, ...] = ()

    def setup(self) -> None:
        for name in self.learned:
            setattr(self, f"learned_{name}", Scalar())

    def scalar(self, name: str, hyper: Hyper) -> Array:
        """The value of a loss weight in this step, be it given or learned."""
        if name in self.learned:
            return getattr(self, f"learned_{name}")()
        return hyper[name]
