"""CLIPin: regression of an averaged target, across modalities and within each.

Source: arXiv 2508.06434 and its released code (T6Yang/CLIPin, `clip/model.py`). With
u = projector(pre-projected feature), p and r two predictors of u, and y the unit
projection of the target branch (view 2):

    inter = 2 - mean cos(p_image, y_text) - mean cos(p_text, y_image)
    intra = 2 - mean cos(r_image, y_image) - mean cos(r_text, y_text)
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from clipin_jax.errors import ClipinError
from clipin_jax.models.base import Towers
from clipin_jax.models.layers import (
    LINEAR_INITS,
    BatchNorm,
    Linear,
    check_option,
    unit,
)
from clipin_jax.objectives import health
from clipin_jax.objectives.base import (
    POOLED,
    SIZES,
    Inputs,
    ObjectiveModule,
)
from clipin_jax.objectives.losses import cosine_regression, diagonal_accuracy
from clipin_jax.types import Array, Features, Hyper, Metrics, View

_ZERO = dict(kernel_init=nn.initializers.zeros, bias_init=nn.initializers.zeros)
PREDICTORS = ("mlp", "residual", "linear", "none")
# term -> (online modality, target modality) of its two predictors
TERMS = {
    "inter": (("image", "text"), ("text", "image")),
    "intra": (("image", "image"), ("text", "text")),
}


class Projector(nn.Module):
    """The non-contrastive head: batch norm without affine, exact GELU, linear."""

    features: int
    head_init: str
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, shared: Array, train: bool) -> Array:
        """Returns [B, features], not normalised; shared: [B, P]."""
        norm = BatchNorm(affine=False, param_dtype=self.param_dtype, name="norm")
        x = jax.nn.gelu(norm(shared, train=train), approximate=False)
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        return Linear(
            self.features, **LINEAR_INITS[self.head_init], **dtypes, name="out"
        )(x)


class Predictor(nn.Module):
    """Linear, batch norm, ReLU, linear back to the width of its input.

    Attributes:
      hidden: width of the batch norm.
      head_init: of both linear layers, a key of `LINEAR_INITS`.
      residual: whether to add the input; the last layer then starts at 0, so that the
        predictor starts as the identity.
    """

    hidden: int
    head_init: str
    residual: bool
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, projection: Array, train: bool) -> Array:
        """Returns [B, D] float32 of unit norm; projection: [B, D]."""
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        init = LINEAR_INITS[self.head_init]
        x = Linear(self.hidden, **init, **dtypes, name="hidden")(projection)
        x = BatchNorm(affine=True, param_dtype=self.param_dtype, name="norm")(
            x, train=train
        )
        init = _ZERO if self.residual else init
        out = Linear(projection.shape[-1], **init, **dtypes, name="out")
        x = out(jax.nn.relu(x))
        return unit(projection + x if self.residual else x)


class LinearPredictor(nn.Module):
    """One square matrix that starts as the identity."""

    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, projection: Array, train: bool) -> Array:
        """Returns [B, D] float32 of unit norm; projection: [B, D]."""
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        change = Linear(projection.shape[-1], **_ZERO, **dtypes, name="change")
        return unit(projection + change(projection))


class PredictionHeads(ObjectiveModule):
    """The projectors and predictors of CLIPin, and the sum of its terms.

    An objective with these heads chooses the targets and how to compare with them.

    Attributes:
      projection_dim: width of the projections u and y.
      predictor: `mlp` as released; `residual`: the mlp is added to its input, and
        starts at 0; `linear`: a matrix that starts as the identity; `none`: the
        projections are the predictions.
      predictor_hidden_dim: width inside the predictors `mlp` and `residual`.
      head_init: how the linear layers of the heads start, a key of `LINEAR_INITS`.
      terms: `inter` and `intra`, or one of them; only their predictors exist.

    Scalars:
      inter_weight: factor of the term across modalities.
      intra_weight: factor of the term within each modality.
    """

    scalars = {"weight": 1.0, "inter_weight": 1.0, "intra_weight": 1.0}
    limits = {"projection_dim": SIZES, "predictor_hidden_dim": SIZES}
    reads = (POOLED,)
    projection_dim: int = 8192
    predictor: str = "mlp"
    predictor_hidden_dim: int = 2048
    head_init: str = "released"
    terms: tuple[str, ...] = ("inter", "intra")

    def setup(self) -> None:
        super().setup()
        if not self.terms or set(self.terms) - set(TERMS):
            raise ClipinError(
                f"{self.config_key}.terms is {self.terms}: name one or both of "
                f"{tuple(TERMS)}"
            )
        check_option(f"{self.config_key}.head_init", self.head_init, LINEAR_INITS)
        check_option(f"{self.config_key}.predictor", self.predictor, PREDICTORS)
        self.image_projector = self._projector()
        self.text_projector = self._projector()
        self.predictors = {
            f"{source}_to_{target}": self._predictor()
            for term in self.terms
            for source, target in TERMS[term]
        }

    def _projector(self) -> Projector:
        return Projector(self.projection_dim, self.head_init, **self.dtypes)

    def _predictor(self) -> Any:
        if self.predictor == "none":
            return lambda projection, train: unit(projection)
        if self.predictor == "linear":
            return LinearPredictor(**self.dtypes)
        residual = self.predictor == "residual"
        hidden = self.predictor_hidden_dim
        return Predictor(hidden, self.head_init, residual, **self.dtypes)

    def project(self, features: Features, train: bool) -> dict[str, Array]:
        """Returns per modality u: [B, projection_dim], not normalised."""
        return {
            modality: getattr(self, f"{modality}_projector")(f["shared"], train)
            for modality, f in features.items()
        }

    def predict(self, features: Features, train: bool) -> dict[str, Array]:
        """Returns `image_to_text` and so on: [B, projection_dim] float32, unit norm."""
        return {
            name: predictor(projection, train)
            for modality, projection in self.project(features, train).items()
            for name, predictor in self.predictors.items()
            if name.startswith(f"{modality}_to_")
        }

    def sum_terms(
        self,
        predictions: Mapping[str, Array],
        targets: Mapping[str, Array],
        loss_fn: Callable[[Array, Array], Array],
        hyper: Hyper,
    ) -> tuple[Array, Metrics]:
        """Returns the weighted sum of the terms; loss and weight of each as metrics.

        Args:
          predictions: from `predict`.
          targets: per modality [B, projection_dim] of unit norm.
          loss_fn: the loss of one predictor, `(prediction, target) -> scalar`.
          hyper: the scalars of this objective.
        """
        loss, metrics = jnp.zeros(()), {}
        for term in self.terms:
            value = sum(
                loss_fn(predictions[f"{source}_to_{target}"], targets[target])
                for source, target in TERMS[term]
            )
            weight = self.scalar(f"{term}_weight", hyper)
            loss = loss + weight * value
            metrics |= {f"{term}_loss": value, f"{term}_weight": weight}
        return loss, metrics


class TargetHeads(PredictionHeads):
    """Prediction heads whose targets are projections of the target network.

    Attributes:
      target_view: the view of the target branch, `second` or `same`.
    """

    target_view: str = "second"

    def targets(
        self, towers: Towers, view: View, features: Features, train: bool
    ) -> dict[str, Array]:
        """Returns per modality y: [B, projection_dim] float32 of unit norm."""
        return {m: unit(u) for m, u in self.project(features, train).items()}

    def predictions(self, features: Features, train: bool = False) -> dict[str, Array]:
        """Returns the online predictions of the target, see `predict`."""
        return self.predict(features, train)

    def health(self, features: Features, targets: dict[str, Array]) -> Metrics:
        """Returns `health` of projections, predictions and targets."""
        predictions = self.predictions(features, train=True)
        online = {m: unit(u) for m, u in self.project(features, train=True).items()}
        metrics = {"modality_gap": health.modality_gap(online["image"], online["text"])}
        for branch, vectors in (("online", online), ("target", targets)):
            for modality, x in vectors.items():
                name = f"{branch}_{modality}"
                metrics[f"{name}/spread"] = health.spread(x)
                metrics[f"{name}/effective_rank"] = health.effective_rank(x)
                metrics[f"{name}/uniformity"] = health.uniformity(x)
        for name, prediction in predictions.items():
            target = targets[name.rpartition("_to_")[2]]
            margin = health.shuffled_margin(prediction, target)
            metrics[f"{name}/shuffled_margin"] = margin
            metrics[f"{name}/cosine"] = 1 - cosine_regression(prediction, target)
            metrics[f"{name}/alignment"] = health.alignment(prediction, target)
            metrics[f"{name}/spread"] = health.spread(prediction)
            accuracy = diagonal_accuracy(prediction @ target.T)
            metrics[f"{name}/accuracy"] = accuracy
        return metrics


class Clipin(TargetHeads):
    """The non-contrastive plug-in for any two-tower host: it regresses the target."""

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        """Returns the weighted sum of the terms, and each term."""
        predictions = self.predict(inputs.features, inputs.train)
        return self.sum_terms(
            predictions, inputs.targets, cosine_regression, inputs.hyper
        )
