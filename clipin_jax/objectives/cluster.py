"""Agreement of images and texts on soft clusters (nCLIP, arXiv 2210.09304).

There are no negatives. No code of the paper is public: heads, weights and the batch
mean in the third term are our interpretation. With p and q the cluster probabilities of
an image and its text, over a global batch of B pairs:

    alignment  = mean of [CE(p, q) + CE(q, p)] / 2     a pair shares its clusters,
    sharpness  = mean of [H(p) + H(q)] / 2             each assignment is sharp,
    smoothness = [H(mean p) + H(mean q)] / 2           all clusters are used
    loss       = alignment + sharpness_weight * sharpness
                             - smoothness_weight * smoothness

Gradients flow through both arguments of every cross-entropy.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from clipin_jax.models.layers import BatchNorm, Linear, at_least_float32
from clipin_jax.objectives.base import (
    POOLED,
    SIZES,
    Inputs,
    ObjectiveModule,
)
from clipin_jax.objectives.losses import entropy_of_mean, soft_cross_entropy
from clipin_jax.types import Array, Features, Metrics


class ClusterHead(nn.Module):
    """Linear, batch norm, exact GELU, linear to one logit per cluster."""

    hidden: int
    clusters: int
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, shared: Array, train: bool) -> Array:
        """Returns logits [B, K] in at least float32; shared: [B, P]."""
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        x = Linear(self.hidden, **dtypes, name="hidden")(shared)
        x = BatchNorm(affine=True, param_dtype=self.param_dtype, name="norm")(
            x, train=train
        )
        x = jax.nn.gelu(x, approximate=False)
        logits = Linear(self.clusters, **dtypes, name="out")(x)
        return logits.astype(at_least_float32(self.dtype))


class Cluster(ObjectiveModule):
    """Assigns both sides of a pair to the same of K soft clusters, and uses them all.

    The smoothness of a batch exceeds the sharpness by at most ln B: with many more
    clusters than pairs in a batch, some stay unused. If all pairs have equal
    assignments, the loss is their entropy times 1 + `sharpness_weight` -
    `smoothness_weight`; a positive factor favours few clusters.

    Attributes:
      num_clusters: K.
      hidden_dim: width inside the heads.

    Scalars:
      sharpness_weight: factor of the mean entropy of single assignments.
      smoothness_weight: factor of the entropy of the mean assignment.
    """

    scalars = {"weight": 1.0, "sharpness_weight": 0.5, "smoothness_weight": 1.5}
    limits = {"num_clusters": SIZES, "hidden_dim": SIZES}
    reads = (POOLED,)
    num_clusters: int = 32768
    hidden_dim: int = 4096

    def setup(self) -> None:
        super().setup()
        self.image_head = ClusterHead(self.hidden_dim, self.num_clusters, **self.dtypes)
        self.text_head = ClusterHead(self.hidden_dim, self.num_clusters, **self.dtypes)

    def logits(self, features: Features, train: bool) -> dict[str, Array]:
        """Returns the logits of each modality, [B, K] in at least float32."""
        return {
            modality: getattr(self, f"{modality}_head")(f["shared"], train)
            for modality, f in features.items()
        }

    def embed(self, features: Features) -> dict[str, Array]:
        """Returns the root of the cluster probabilities of each modality, [B, K].

        The cosine of two such vectors is the Bhattacharyya coefficient of the two
        distributions: 1 if they are equal, 0 if they share no cluster. The paper does
        not specify a space for evaluation; this choice is ours.
        """
        logits = self.logits(features, train=False)
        return {m: jnp.exp(jax.nn.log_softmax(x) / 2) for m, x in logits.items()}

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        """Returns the loss, its terms, and the number of used clusters per modality.

        `used_clusters` is the exponential of the entropy of the mean probabilities.
        """
        logits = self.logits(inputs.features, inputs.train)
        p = {m: jax.nn.softmax(x) for m, x in logits.items()}
        alignment = (
            soft_cross_entropy(logits["text"], p["image"])
            + soft_cross_entropy(logits["image"], p["text"])
        ) / 2
        entropy = {m: soft_cross_entropy(x, p[m]) for m, x in logits.items()}
        mean_entropy = {m: entropy_of_mean(x) for m, x in logits.items()}
        sharpness = (entropy["image"] + entropy["text"]) / 2
        smoothness = (mean_entropy["image"] + mean_entropy["text"]) / 2
        loss = (
            alignment
            + self.scalar("sharpness_weight", inputs.hyper) * sharpness
            - self.scalar("smoothness_weight", inputs.hyper) * smoothness
        )
        metrics = dict(alignment=alignment, sharpness=sharpness, smoothness=smoothness)
        for m in logits:
            metrics |= {f"{m}_entropy": entropy[m]}
            metrics |= {f"{m}_used_clusters": jnp.exp(mean_entropy[m])}
        return loss, metrics
