"""A checkpoint of big_vision: SigLIP's two towers as `.npz`.

Source: google-research/big_vision, `models/proj/image_text/two_towers.py`, `utils.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipin_jax.errors import ClipinError
from clipin_jax.interop.exports.folder import Contents
from clipin_jax.interop.exports.kept_arrays import kept_arrays, kept_note
from clipin_jax.interop.exports.projections import merge_projection
from clipin_jax.interop.exports.requirements import (
    LINEAR_TOWERS,
    objective_of,
    require,
    square_sides,
)
from clipin_jax.interop.exports.trained_model import TrainedModel
from clipin_jax.interop.tables.big_vision import siglip_table

BIG_VISION, WEIGHTS = "big_vision", "model.npz"
_HALVES = (0.5, 0.5, 0.5)
_ALLOWED: dict[str, Sequence[Any]] = LINEAR_TOWERS | {
    "model.image_mean": (_HALVES,),
    "model.image_std": (_HALVES,),
    "model.image.pool": ("map",),
    "model.image.pre_norm": (False,),
    "model.image.patch_bias": (True,),
    "model.text.pool": ("last",),
    "model.text.causal": (False,),
    **{f"model.{m}.activation": ("gelu_tanh",) for m in ("image", "text")},
    **{f"model.{m}.norm_eps": (1e-6,) for m in ("image", "text")},
}


def export_big_vision(model: TrainedModel) -> Contents:
    """Returns a folder with a checkpoint of SigLIP.

    Raises:
      ClipinError: big_vision cannot hold the model.
    """
    config = model.config
    require(config, BIG_VISION, _ALLOWED)
    square_sides(config, BIG_VISION)
    arrays = kept_arrays(model, objective_of(config, BIG_VISION, "sigmoid"))
    arrays = merge_projection(arrays, "text")
    if "towers/image_projection/kernel" in arrays:
        raise ClipinError(
            f"{BIG_VISION} cannot hold this model: its SigLIP has no layer after the "
            "image tower, and the run has a projection there (as with CLIPin's "
            "pre-projector): model.pre_projector=0 trains a model without"
        )
    heads = config.model.image.num_heads, config.model.text.num_heads
    theirs = siglip_table(*heads).from_flat(arrays)
    return Contents(
        files={WEIGHTS: lambda path: _write_npz(path, theirs)},
        library=BIG_VISION,
        usage=_usage(model),
        notes=[*kept_note(model, arrays), _preparation(model)],
    )


def _write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    named: dict[str, Any] = {f"params/{name}": value for name, value in arrays.items()}
    with path.open("wb") as file:
        np.savez(file, **named)


def _preparation(model: TrainedModel) -> str:
    data = model.config.data
    tokenizer = data.tokenizer.get("name", "bpe")
    return (
        f"A checkpoint has no preprocessing. Images are {model.image_size}, and mapped "
        "to [-1, 1]. Texts have "
        f"{data.context_length} ids of the tokenizer {tokenizer}, padded with the "
        "end mark."
    )


def _usage(model: TrainedModel) -> str:
    config = model.config.model

    def tower(spec: Any) -> str:
        sizes = f"width={spec.width}, depth={spec.depth}, num_heads={spec.num_heads}"
        return f"{sizes}, mlp_dim={int(spec.mlp_ratio * spec.width)}"

    patch = tuple(config.image.patch_size)
    return f"""\
import big_vision.models.proj.image_text.two_towers as two_towers
import big_vision.utils
import ml_collections

model = two_towers.Model(
    image_model="vit",
    image=ml_collections.ConfigDict(
        dict({tower(config.image)}, patch_size={patch}, pool_type="map")
    ),
    text_model="proj.image_text.text_transformer",
    text=ml_collections.ConfigDict(
        dict({tower(config.text)}, vocab_size={config.text.vocab_size})
    ),
    out_dim=(None, {config.embed_dim}),
    bias_init=-10,
    temperature_init=10,
)
params = big_vision.utils.load_params("FOLDER/{WEIGHTS}")
image_embeddings, text_embeddings, _ = model.apply({{"params": params}}, images, texts)
"""
