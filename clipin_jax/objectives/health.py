"""Metrics of a batch that reveal a collapse of embeddings and of projections.

A constant output solves regression without negatives: the loss is excellent, but these
metrics are not.
"""

from collections.abc import Mapping

import jax.numpy as jnp

from clipin_jax.types import Array


def spread(x: Array) -> Array:
    """Returns the mean standard deviation per dimension, times sqrt(D).

    Args:
      x: [B, D] of unit norm.

    Returns:
      Scalar; 1 for directions that fill the sphere, 0 for a collapse to a point.
    """
    return jnp.mean(jnp.std(x, axis=0)) * jnp.sqrt(x.shape[-1])


def effective_rank(x: Array) -> Array:
    """Returns exp(entropy of the spectrum) of centred rows, as a share of full rank.

    The spectrum is that of the covariance (Roy and Vetterli, "The effective rank",
    2007), and full rank the smaller of B - 1 and D.

    Args:
      x: [B, D] of unit norm.

    Returns:
      Scalar in (0, 1]; 0 when all rows are equal.
    """
    batch, width = x.shape
    centred = x - x.mean(axis=0)
    # Both products have the same spectrum but for zeros.
    product = centred @ centred.T if batch <= width else centred.T @ centred
    spectrum = jnp.clip(jnp.linalg.eigvalsh(product), 0)
    share = spectrum / jnp.maximum(spectrum.sum(), 1e-12)
    entropy = -jnp.sum(share * jnp.log(jnp.maximum(share, 1e-12)))
    varied = spectrum.sum() > 1e-12
    return jnp.where(varied, jnp.exp(entropy), 0) / min(batch - 1, width)


def alignment(x: Array, y: Array) -> Array:
    """Returns the mean squared distance of pairs (Wang and Isola, arXiv 2005.10242).

    Args:
      x: [B, D] of unit norm.
      y: [B, D] of unit norm.

    Returns:
      Scalar in [0, 4]; small is good, together with a low uniformity.
    """
    return jnp.mean(jnp.sum(jnp.square(x - y), axis=-1))


def uniformity(x: Array) -> Array:
    """Returns the log of the mean Gaussian potential of different rows.

    Source: Wang and Isola, arXiv 2005.10242, with t = 2.

    Args:
      x: [B, D] of unit norm.

    Returns:
      Scalar in [-4, 0]; 0 when all rows are equal.
    """
    batch = x.shape[0]
    potential = jnp.exp(-2 * jnp.clip(2 - 2 * x @ x.T, 0))
    off_diagonal = potential.sum() - jnp.trace(potential)
    return jnp.log(off_diagonal / (batch * (batch - 1)))


def modality_gap(x: Array, y: Array) -> Array:
    """Returns the distance between the means of two modalities (arXiv 2203.02053).

    Args:
      x: [B, D] of unit norm.
      y: [B, D] of unit norm.

    Returns:
      Scalar in [0, 2].
    """
    return jnp.linalg.norm(x.mean(axis=0) - y.mean(axis=0))


def embedding_health(embedding: Mapping[str, Array]) -> dict[str, Array]:
    """Returns the metrics of a joint space by name.

    Args:
      embedding: per modality [B, E] of unit norm, row i of each from pair i.
    """
    image, text = embedding["image"], embedding["text"]
    metrics = {
        "alignment": alignment(image, text),
        "modality_gap": modality_gap(image, text),
    }
    for modality, x in embedding.items():
        metrics[f"{modality}/spread"] = spread(x)
        metrics[f"{modality}/effective_rank"] = effective_rank(x)
    return metrics


def shuffled_margin(prediction: Array, target: Array) -> Array:
    """Returns the decrease of the mean cosine with the target of the next row.

    Args:
      prediction: [B, D] of unit norm.
      target: [B, D] of unit norm.

    Returns:
      Scalar; near 0 before anything is learned, and again after a collapse.
    """
    paired = jnp.sum(prediction * target, axis=-1)
    shuffled = jnp.sum(prediction * jnp.roll(target, 1, axis=0), axis=-1)
    return jnp.mean(paired - shuffled)


def collapse_warning(metrics: Mapping[str, float]) -> str | None:
    """Returns a warning for the log if the branch has collapsed, else None.

    A collapse has a low loss without a margin: predictions fit every pair. The
    thresholds are far from healthy values (spread 0.3 to 1, margin above
    0.1).

    Args:
      metrics: health metrics of one step, name -> number: `*/cosine` and
        `*/shuffled_margin` of each term, `*/spread` of each target.
    """
    for name, margin in metrics.items():
        term, _, kind = name.rpartition("/")
        if kind != "shuffled_margin":
            continue
        cosine = metrics[f"{term}/cosine"]
        if cosine > 0.9 and margin < 0.02:
            return (
                f"the non-contrastive branch has collapsed: {term} predicts its target "
                f"with cosine {cosine:.3f}, and a shuffled target just as well "
                f"(margin {margin:.4f}). Keep the contrastive objective on, raise "
                "target.decay, or lower the learning rate."
            )
    return None
