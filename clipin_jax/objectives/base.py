"""What an objective is: the protocols that training and inference rely on, and a base.

An objective is a flax module that maps `Inputs` to a scalar loss and metrics. Its
numbers (`scalars`) and its options (fields) have defaults in the class and are keys of
`config.objectives.NAME`. This one, in a package of its own, is complete:

    class Triplet(ObjectiveModule):
        '''Keeps the hardest wrong caption a margin away (VSE++, arXiv 1707.05612).'''

        scalars = {"weight": 1.0, "margin": 0.2}
        both_ways: bool = True

        def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
            image = inputs.features["image"]["embedding"]  # [B, E]
            text = inputs.features["text"]["embedding"]
            similarity = image @ text.T
            right = jnp.diag(similarity)
            wrong = similarity - 2 * jnp.eye(len(similarity))  # pairs below all others
            margin = self.scalar("margin", inputs.hyper)
            loss = jax.nn.relu(margin + wrong.max(axis=1) - right).mean()
            if self.both_ways:
                loss += jax.nn.relu(margin + wrong.max(axis=0) - right).mean()
            return loss, {"similarity": right.mean()}

The config `objectives.triplet = dict(type="their_package.losses:Triplet")` trains with
it. Submodules (a head) are created in `setup`, which begins with `super().setup()`.

The other protocols are optional. To define the methods of one is to ask for the service
that its docstring describes. What an objective keeps between steps (batch statistics,
a queue) is a variable of a flax collection, in a submodule that only `__call__` uses.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import flax.linen as nn
import jax.numpy as jnp

from clipin_jax.errors import ClipinError, did_you_mean
from clipin_jax.models.base import Towers
from clipin_jax.objectives.losses import Mean
from clipin_jax.types import Array, Features, Hyper, Metrics, View

# Limits of a temperature: similarities divided by less make a softmax one-hot.
TEMPERATURES = (1e-4, math.inf)
SIZES = (1, math.inf)  # limits of a width or a number of things
# What an objective may read of the towers, see `ObjectiveModule.reads`.
POOLED, OTHER_IMAGE, OTHER_TEXT, TOWERS = (
    "pooled",
    "other_image",
    "other_text",
    "towers",
)


class Inputs(NamedTuple):
    """The inputs of an objective in one step.

    Attributes:
      towers: the bound towers, for an objective that needs another forward pass.
      view: the view of the online branch.
      other_view: the second view of the same pairs; `view` itself where there is one.
      features: of the online branch, computed once for all objectives, with
        `embedding`.
      targets: what `targets` of this objective returned; None without that method.
      hyper: the numbers of this step, one for each of `scalars` that is not learned.
      train: whether batch norms use and update batch statistics, and dropout drops.
      other_features: of the second view, without `embedding`, where the step has them
        already; read them by `encode_other`.
    """

    towers: Towers
    view: View
    other_view: View
    features: Features
    targets: Any
    hyper: Hyper
    train: bool
    other_features: Features | None = None

    def encode_other(self, *modalities: str) -> Features:
        """Returns the online features of the second view, without `embedding`.

        The gradient flows through them, as through `features`.
        """
        if self.other_features is not None:
            return {m: self.other_features[m] for m in modalities}
        view = {m: self.other_view[m] for m in modalities}
        return self.towers.encode(view, self.train)


class Objective(Protocol):
    """What every objective has; `ObjectiveModule` provides all but the loss.

    Attributes:
      scalars: name to default of the numbers that a config may set, schedule or learn;
        `weight` is the factor of the loss.
    """

    scalars: ClassVar[Mapping[str, float]]

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        """Returns the scalar loss of the global batch, and metrics by name."""
        ...

    def scalar(self, name: str, hyper: Hyper) -> Array:
        """Returns the value of a scalar in this step."""
        ...


class AveragesPairs(Protocol):
    """Has a loss and metrics that are means over things of single pairs, as tokens are.

    A subclass of `ObjectiveModule` has `means` in place of `__call__`. Whatever it
    reads, `micro_batches` run it on the pairs of each piece, and add up the sums.
    """

    def means(self, inputs: Inputs) -> tuple[Mean, Mapping[str, Mean]]:
        """Returns the loss, and metrics by name, of the pairs in `inputs`.

        No value may depend on another pair, and no number on a parameter.
        """
        ...


class UsesTarget(Protocol):
    """Asks for the target network: averaged parameters, outside of the gradient.

    Only the parameters that `targets` uses are averaged.

    Attributes:
      target_view: the view of the target branch, `second` or `same`.
    """

    target_view: str

    def targets(
        self, towers: Towers, view: View, features: Features, train: bool
    ) -> Any:
        """Returns a pytree for `Inputs.targets`.

        Args:
          towers: with the target's parameters.
          view: the view of the target branch.
          features: of that view, without `embedding`.
          train: whether batch norms use and update batch statistics, and dropout drops.
        """
        ...


class Predicts(Protocol):
    """Offers predictions of one modality from another to evaluators."""

    def predictions(self, features: Features) -> dict[str, Array]:
        """Returns `image_to_text` and so on, each [B, D] of unit norm."""
        ...


class ReportsHealth(Protocol):
    """Adds numbers that reveal a collapse to the log."""

    def health(self, features: Features, targets: Any) -> Metrics:
        """Returns scalars by name, from online features and `Inputs.targets`."""
        ...


class Embeds(Protocol):
    """Offers its space to evaluators, where `model.embedding_from` names it."""

    def embed(self, features: Features) -> dict[str, Array]:
        """Returns per modality [B, E] float32 of unit norm."""
        ...


class ScoresPairs(Protocol):
    """Scores pairs one by one, to rerank the candidates of a retrieval."""

    def scores(
        self, towers: Towers, text: Array, text_tokens: Array, image_tokens: Array
    ) -> Array:
        """Returns [B] in at least float32, larger for better matches.

        Args:
          towers: with online parameters.
          text: [B, L] int32.
          text_tokens: [B, L, D], the `tokens` of the text tower.
          image_tokens: [B, N, D], the `tokens` of the image tower.
        """
        ...


class ScalesCosines(Protocol):
    """Has logits that are a function of the cosines of embeddings."""

    def scale_cosines(self, cosine: Array) -> tuple[Array, Array]:
        """Returns the logits of its loss, and the probabilities that it learns.

        cosine: [B, T] of images and texts; both results have its shape.
        """
        ...


class ReportsChance(Protocol):
    """Classifies among a known number of choices."""

    def num_choices(self, batch_size: int) -> int:
        """Returns how many; the logarithm of that is the loss of chance."""
        ...


def chance_counts(objectives: Mapping[str, Any], batch_size: int) -> dict[str, int]:
    """Returns the number of choices of each objective by name, where it is known."""
    return {
        name: objective.num_choices(batch_size)
        for name, objective in objectives.items()
        if hasattr(type(objective), "num_choices")
    }


class Scalar(nn.Module):
    """One learned number, the parameter `value`."""

    start: float = 1.0
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self) -> Array:
        """Returns the number, a scalar."""
        constant = nn.initializers.constant(self.start)
        return self.param("value", constant, (), self.param_dtype)


class ObjectiveModule(nn.Module):
    """Base of objectives: scalars, given in the config or learned, and dtypes.

    Attributes:
      scalars: see `Objective`.
      limits: name -> least and greatest value of a scalar or a field; others are free.
      reads: what it takes of the towers. `POOLED`: the vectors of features, which are
        `pooled`, `shared` and `embedding`; `OTHER_IMAGE`, `OTHER_TEXT`: those of
        `Inputs.encode_other`; `TOWERS`: anything else, such as `tokens`. With the last,
        towers run on micro-batches only if it has `means`, see `AveragesPairs`. A
        subclass that reads more says so.
      learned: the names out of `scalars` that are parameters (config value
        `"learned"`). They start at 1. Gradient descent can only shrink the learned
        weight of a positive loss: CLIPin was released so, we do not recommend it.
      dtype: of products.
      param_dtype: of parameters.

    Scalars:
      weight: factor of the loss.
    """

    scalars: ClassVar[Mapping[str, float]] = {"weight": 1.0}
    limits: ClassVar[Mapping[str, tuple[float, float]]] = {}
    reads: ClassVar[tuple[str, ...]] = (TOWERS,)
    learned: tuple[str, ...] = ()
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        for name in self.learned:
            setattr(self, f"learned_{name}", Scalar())

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        """Returns the loss and the metrics that `means` returns, see `AveragesPairs`.

        Raises:
          ClipinError: the class has neither `means` nor its own `__call__`.
        """
        if not hasattr(type(self), "means"):
            raise ClipinError(
                f"{self.config_key}: {type(self).__name__} has no loss: define "
                "`__call__`, see clipin_jax/objectives/base.py"
            )
        objective: Any = self
        loss, metrics = objective.means(inputs)
        return loss.value, {name: mean.value for name, mean in metrics.items()}

    @property
    def dtypes(self) -> dict[str, Any]:
        """`dtype` and `param_dtype`, for submodules."""
        return dict(dtype=self.dtype, param_dtype=self.param_dtype)

    @property
    def config_key(self) -> str:
        """The config key of this objective, for messages."""
        # A bound module has the name of its place in the learner.
        return f"objectives.{(self.name or '').removeprefix('objectives_')}"

    def scalar(self, name: str, hyper: Hyper) -> Array:
        """Returns the value of a scalar in this step, given or learned.

        Raises:
          ClipinError: `scalars` has no such name, or a `setup` does not call that of
            this class.
        """
        if name in self.learned:
            learned = vars(self).get(f"learned_{name}")
            if learned is None:
                raise ClipinError(
                    f"{self.config_key}.{name} is 'learned', but "
                    f"{type(self).__name__}.setup does not make it: begin that with "
                    "super().setup()"
                )
            return learned()
        if name not in hyper:
            raise ClipinError(
                f"{self.config_key}: {type(self).__name__} reads a scalar {name!r}, "
                f"which its `scalars` does not have: {did_you_mean(name, self.scalars)}"
            )
        return hyper[name]


def reads_of(objective: Objective) -> tuple[str, ...]:
    """Returns what an objective reads of the towers; those of any class may not say."""
    return getattr(objective, "reads", (TOWERS,))


def averages_pairs(objective: Objective) -> bool:
    """Whether all that it reports is what `means` returns, see `AveragesPairs`."""
    kind: Any = type(objective)
    is_default = kind.__call__ is ObjectiveModule.__call__
    return is_default and hasattr(kind, "means") and not hasattr(kind, "health")


def require_method(tower: Any, method: str, objective: ObjectiveModule) -> Any:
    """Returns the tower if it has a method.

    Args:
      tower: of either modality.
      method: of one of the optional protocols in `models.base`.
      objective: that calls it, for the message.

    Raises:
      ClipinError: the tower lacks the method.
    """
    if not hasattr(type(tower), method):
        raise ClipinError(
            f"{objective.config_key} needs a tower that can {method}, which "
            f"{type(tower).__name__} cannot: choose another model.{tower.name}.name, "
            "or remove the objective"
        )
    return tower
