"""Smaller configs: for a few steps anywhere, or for minutes on two cores."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from clipin_jax.config.key_origins import changes_config


@changes_config
def shrink_runlocal(config: ConfigDict, **sizes: Mapping[str, Any]) -> None:
    """Shrinks a config to two layers of width 64 and 20 steps, which run anywhere.

    Args:
      config: changed in place.
      sizes: other sizes, by `image`, `text` or the name of an objective.
    """
    heads = dict(clipin=dict(projection_dim=128, predictor_hidden_dim=32))
    _resize(config, dict(width=64, depth=2, num_heads=2), 32, 32, heads | sizes)
    config.batch_size = 32
    config.total_steps = 20
    config.log_every_steps = 5
    config.health_every_steps = 10
    config.optim.learning_rate.warmup_steps = 5
    config.data.augment.flip = 0.0  # captions of scenes name left and right
    config.checkpoint.every_steps = 10
    _shrink_evals(config, every_steps=10, batch_size=32, rerank=4)


@changes_config
def shrink_small(config: ConfigDict, **sizes: Mapping[str, Any]) -> None:
    """Shrinks a config to three layers of width 128 and 400 steps, for two cores.

    Args:
      config: changed in place.
      sizes: other sizes, by `image`, `text` or the name of an objective.
    """
    _resize(config, dict(width=128, depth=3, num_heads=4), 48, 128, sizes)
    config.batch_size = 128
    config.total_steps = 400
    config.optim.learning_rate.update(peak=1e-3, warmup_steps=50)
    if config.target.decay:
        config.target.decay = 0.99  # a slower average stays behind in so few steps
    config.data.augment.update(
        crop_scale=(0.4, 1.0), brightness=0.3, contrast=0.3, saturation=0.3
    )
    config.checkpoint.every_steps = 200
    _shrink_evals(config, every_steps=200, batch_size=128, rerank=16)


def _shrink_evals(
    config: ConfigDict, *, every_steps: int, batch_size: int, rerank: int
) -> None:
    for evaluation in config.evals.values():
        evaluation.batch_size = batch_size
        for key, most in dict(every_steps=every_steps, rerank=rerank).items():
            if key in evaluation:
                evaluation[key] = min(evaluation[key], most)


def _resize(
    config: ConfigDict,
    layers: Mapping[str, int],
    pixels: int,
    embed_dim: int,
    sizes: Mapping[str, Mapping[str, Any]],
) -> None:
    width = layers["width"]
    standard = {
        "image": dict(layers, image_size=(pixels, pixels), patch_size=(8, 8)),
        "text": dict(layers, context_length=32),
        "clipin": dict(projection_dim=8 * width, predictor_hidden_dim=2 * width),
    }
    config.model.embed_dim = min(config.model.embed_dim, embed_dim)
    config.model.pre_projector = min(config.model.pre_projector, width)
    for name in {*standard, *sizes}:
        part = config.model if name in ("image", "text") else config.objectives
        if name in part:
            known = {k: v for k, v in standard.get(name, {}).items() if k in part[name]}
            part[name].update(known | dict(sizes.get(name, {})))
