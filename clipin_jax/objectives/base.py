"""What an objective is.

An objective is a module with heads of its own (or none) and a loss:

    __call__(inputs: Inputs) -> (loss, metrics)

Six methods are optional, and their presence is the request:

- `targets(towers, view, features, train) -> pytree`: "I need the target network". It
  runs with averaged parameters and outside the gradient. Just the parameters that it
  touches are averaged. Which view it sees is the objective's `target_view`.
- `predictions(features) -> dict`: what the online branch predicts, for evaluation.
- `health(features, targets) -> metrics`: numbers that show whether it is well.
- `embed(features) -> {modality: [B, E]}` of unit norm: the space in which this
  objective compares, for evaluation (`model.embedding_from`).
- `scores(towers, text, text_tokens, image_tokens) -> [B]`: how well pairs match, for
  ranking again.
- `num_choices(batch_size) -> int`: whose logarithm is the loss of chance.

What an objective remembers between steps (batch statistics, a queue) is a variable of
a flax collection, kept in a submodule that only `__call__` reaches.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from clipin_jax.errors import ClipinError
from clipin_jax.types import Array, Features, Hyper, View


class Inputs(NamedTuple):
    """What an objective is given in one step.

    Attributes:
      towers: the bound `TwoTowers`, for an objective that needs another pass.
      view: what the online branch saw.
      other_view: the second view of the same pairs; `view` itself where there is one.
      features: what the online branch says; computed once, read by all.
      targets: what this objective's own `targets` returned; None if it has none.
      hyper: this step's numbers of this objective, one per name in `scalars`.
      train: whether batch norms use and move batch statistics, and dropout drops.
    """

    towers: Any
    view: View
    other_view: View
    features: Features
    targets: Any
    hyper: Hyper
    train: bool


class Scalar(nn.Module):
    """One number, a parameter that exists only where it is asked for."""

    start: float = 1.0
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self) -> Array:
        constant = nn.initializers.constant(self.start)
        return self.param("value", constant, (), self.param_dtype)


class Objective(nn.Module):
    """Base of all objectives: their loss weights, given or learned.

    Attributes:
      scalars: name to default of the numbers that a config may set, schedule or learn.
      learned: names out of `scalars` that are parameters (config value `"learned"`).
        Losses are positive, so gradient descent can only shrink a learned weight:
        this is how CLIPin was released, not what we recommend.
    """

    scalars: ClassVar[Mapping[str, float]] = {"weight": 1.0}
    learned: tuple[str, ...] = ()

    def setup(self) -> None:
        for name in self.learned:
            setattr(self, f"learned_{name}", Scalar())

    @property
    def config_key(self) -> str:
        """Where the config has it, for messages; bound, a module has a longer name."""
        return f"objectives.{(self.name or '').removeprefix('objectives_')}"

    def scalar(self, name: str, hyper: Hyper) -> Array:
        """The value of a loss weight in this step, be it given or learned."""
        if name in self.learned:
            return getattr(self, f"learned_{name}")()
        return hyper[name]


def require_method(tower: nn.Module, method: str, objective: Objective) -> None:
    """Checks that a tower can do what an objective asks of it.

    Raises:
      ClipinError: it cannot.
    """
    if not hasattr(type(tower), method):
        raise ClipinError(
            f"{objective.config_key} needs a tower that can {method}, which "
            f"{type(tower).__name__} cannot: choose another model.{tower.name}.name, "
            "or leave the objective out"
        )
