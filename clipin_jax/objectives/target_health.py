"""Metrics of a batch that reveal a collapse of the non-contrastive branch.

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
    """Returns exp(entropy of the spectrum) of the centred rows, divided by B - 1.

    The spectrum is that of the B x B Gram matrix, since D exceeds B (Roy and Vetterli,
    "The effective rank", 2007).

    Args:
      x: [B, D] of unit norm.

    Returns:
      Scalar in (0, 1]; 0 when all rows are equal.
    """
    centred = x - x.mean(axis=0)
    spectrum = jnp.clip(jnp.linalg.eigvalsh(centred @ centred.T), 0)
    share = spectrum / jnp.maximum(spectrum.sum(), 1e-12)
    entropy = -jnp.sum(share * jnp.log(jnp.maximum(share, 1e-12)))
    varied = spectrum.sum() > 1e-12
    return jnp.where(varied, jnp.exp(entropy), 0) / (x.shape[0] - 1)


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
