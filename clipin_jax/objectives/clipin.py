"""CLIPin: regression of an averaged target, across modalities and within each.

Source: arXiv 2508.06434 and its released code (T6Yang/CLIPin, `clip/model.py`). With
u = projector(pre-projected feature), p and r two predictors of u, and y the unit
projection of the target branch (view 2):

    inter = 2 - mean cos(p_image, y_text) - mean cos(p_text, y_image)
    intra = 2 - mean cos(r_image, y_image) - mean cos(r_text, y_text)
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import BatchNorm, Linear, unit
from clipin_jax.objectives import health
from clipin_jax.objectives.base import Inputs, Objective
from clipin_jax.objectives.losses import cosine_regression, diagonal_accuracy
from clipin_jax.types import Array, Features, Hyper, Metrics, View

# term -> (online modality, target modality) of its two predictors
TERMS = {
    "inter": (("image", "text"), ("text", "image")),
    "intra": (("image", "image"), ("text", "text")),
}


class Projector(nn.Module):
    """The non-contrastive head: batch norm without affine, exact GELU, linear."""

    features: int
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, shared: Array, train: bool) -> Array:
        """shared: [B, P] to [B, features], not normalised."""
        norm = BatchNorm(affine=False, param_dtype=self.param_dtype, name="norm")
        x = jax.nn.gelu(norm(shared, train=train), approximate=False)
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        return Linear(self.features, **dtypes, name="out")(x)


class Predictor(nn.Module):
    """Linear, batch norm, ReLU, linear back to the width of its input."""

    hidden: int
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, projection: Array, train: bool) -> Array:
        """projection: [B, D] to [B, D] float32 of unit norm."""
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        x = Linear(self.hidden, **dtypes, name="hidden")(projection)
        x = BatchNorm(affine=True, param_dtype=self.param_dtype, name="norm")(
            x, train=train
        )
        return unit(Linear(projection.shape[-1], **dtypes, name="out")(jax.nn.relu(x)))


class Predicting(Objective):
    """Projectors and predictors; what they have to predict is a subclass's `answers`.

    Attributes:
      projection_dim: width of the projections u and y.
      predictor_hidden_dim: width inside the predictors; 0 for none: the projections
        themselves predict.
      terms: `inter` and `intra`, or one of them; only their predictors exist.
    """

    scalars = {"weight": 1.0, "inter_weight": 1.0, "intra_weight": 1.0}
    projection_dim: int = 8192
    predictor_hidden_dim: int = 2048
    terms: tuple[str, ...] = ("inter", "intra")
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        super().setup()
        if not self.terms or set(self.terms) - set(TERMS):
            raise ClipinError(
                f"{self.config_key}.terms is {self.terms}: name one or both of "
                f"{tuple(TERMS)}"
            )
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        self.image_projector = Projector(self.projection_dim, **dtypes)
        self.text_projector = Projector(self.projection_dim, **dtypes)
        self.predictors = {
            f"{source}_to_{target}": self._predictor(dtypes)
            for term in self.terms
            for source, target in TERMS[term]
        }

    def _predictor(self, dtypes: dict[str, Any]) -> Any:
        if not self.predictor_hidden_dim:
            return lambda projection, train: unit(projection)
        return Predictor(self.predictor_hidden_dim, **dtypes)

    def project(self, features: Features, train: bool) -> dict[str, Array]:
        """Per modality u: [B, projection_dim], not normalised."""
        return {
            modality: getattr(self, f"{modality}_projector")(f["shared"], train)
            for modality, f in features.items()
        }

    def predict(self, features: Features, train: bool) -> dict[str, Array]:
        """`image_to_text` and so on: [B, projection_dim] float32 of unit norm."""
        return {
            name: predictor(projection, train)
            for modality, projection in self.project(features, train).items()
            for name, predictor in self.predictors.items()
            if name.startswith(f"{modality}_to_")
        }

    def compare(self, prediction: Array, target: Array, hyper: Hyper) -> Array:
        """The loss of one predictor; both are [B, projection_dim] of unit norm."""
        return cosine_regression(prediction, target)

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        """Returns the weighted sum of the terms, and each term."""
        predictions = self.predict(inputs.features, inputs.train)
        targets = self.answers(inputs)
        loss, metrics = jnp.zeros(()), {}
        for term in self.terms:
            value = sum(
                self.compare(
                    predictions[f"{source}_to_{target}"], targets[target], inputs.hyper
                )
                for source, target in TERMS[term]
            )
            weight = self.scalar(f"{term}_weight", inputs.hyper)
            loss = loss + weight * value
            metrics |= {f"{term}_loss": value, f"{term}_weight": weight}
        return loss, metrics

    def answers(self, inputs: Inputs) -> dict[str, Array]:
        """What is to be predicted, per modality: [B, projection_dim], of unit norm."""
        raise NotImplementedError


class Clipin(Predicting):
    """The non-contrastive plug-in for any two-tower host: it predicts the target.

    Attributes:
      target_view: which view the target branch sees, see `Learner`.
    """

    target_view: str = "second"

    def targets(
        self, towers: nn.Module, view: View, features: Features, train: bool
    ) -> dict[str, Array]:
        """Per modality y: [B, projection_dim] float32 of unit norm."""
        return {m: unit(u) for m, u in self.project(features, train).items()}

    def answers(self, inputs: Inputs) -> dict[str, Array]:
        """What `targets` said under the target's parameters."""
        return inputs.targets

    def predictions(self, features: Features, train: bool = False) -> dict[str, Array]:
        """What the online branch predicts of the target: see `predict`."""
        return self.predict(features, train)

    def health(self, features: Features, targets: dict[str, Array]) -> Metrics:
        """Collapse alarms of every projection, prediction and target; see `health`."""
        predictions = self.predictions(features, train=True)
        online = {m: unit(u) for m, u in self.project(features, train=True).items()}
        metrics = {"modality_gap": health.modality_gap(online["image"], online["text"])}
        for role, vectors in (("online", online), ("target", targets)):
            for modality, x in vectors.items():
                name = f"{role}_{modality}"
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
