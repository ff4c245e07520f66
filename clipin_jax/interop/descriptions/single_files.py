"""Files of weights without a description: the names of their arrays tell the model."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from clipin_jax.errors import ClipinError, first_few
from clipin_jax.interop.descriptions import (
    albef_blip,
    big_vision,
    open_clip_weights,
    timm,
)
from clipin_jax.interop.file_arrays import Reading
from clipin_jax.interop.foreign_model import ForeignModel
from clipin_jax.interop.weights import Weights, open_weights, weight_files


class Kind(NamedTuple):
    """A kind of models.

    Attributes:
      name: of the library and model, for messages.
      marks: names that its weights have, and the weights of kinds below do not.
      open: weights -> the model.
    """

    name: str
    marks: tuple[str, ...]
    open: Callable[[Weights], ForeignModel]


_VIT, _WORDS = "visual.class_embedding", "token_embedding.weight"
_LAYERS, _VISION = "visual.layer1.0.conv1.weight", "visual_encoder.cls_token"
_BERT = "embeddings.word_embeddings.weight"
# The first one whose marks are all there.
KINDS = (
    Kind("OpenAI CLIP", ("input_resolution", _WORDS), open_clip_weights.open_archive),
    Kind(
        "the released CLIPin",
        (_VIT, f"TextEncoder.{_WORDS}"),
        open_clip_weights.open_clipin,
    ),
    Kind(
        "open_clip's CoCa",
        ("visual.attn_pool.query", "text_decoder.text_projection"),
        open_clip_weights.open_coca,
    ),
    Kind(
        "open_clip's SigLIP",
        ("visual.trunk.attn_pool.latent", "logit_bias"),
        open_clip_weights.open_siglip,
    ),
    Kind("open_clip's CLIP", (_VIT, _WORDS), open_clip_weights.open_vit),
    Kind(
        "open_clip's CLIP", (_VIT, f"text.{_WORDS}"), open_clip_weights.open_custom_text
    ),
    Kind("open_clip's CLIP", (_LAYERS, _WORDS), open_clip_weights.open_resnet),
    Kind("ALBEF", (_VISION, f"text_encoder.bert.{_BERT}"), albef_blip.open_albef),
    Kind("BLIP", (_VISION, f"text_encoder.{_BERT}"), albef_blip.open_blip),
    Kind("timm's ViT", timm.MARKS, timm.open_timm_weights),
    Kind("big_vision's SigLIP", ("img/embedding/kernel",), big_vision.open_siglip),
    Kind("big_vision's ViT", ("embedding/kernel",), big_vision.open_vit),
)


def open_single_file(path: Path) -> ForeignModel | None:
    """Opens a file of weights, or a folder with no more than one.

    Returns:
      The model; None for a folder without any file of weights.

    Raises:
      ClipinError: the file is damaged, or of no model that we know.
    """
    if path.is_dir() and not weight_files(path):
        return None
    return describe(open_weights(path))


def describe(weights: Weights) -> ForeignModel:
    """Describes weights by the names and shapes of their arrays.

    Raises:
      ClipinError: they are of no model that we know.
    """
    names = {name.removeprefix("params/") for name in weights.names()}
    for kind in KINDS:
        if names.issuperset(kind.marks):
            with Reading(f"{kind.name} in {weights.origin}"):
                return kind.open(weights)
    known = ", ".join(dict.fromkeys(kind.name for kind in KINDS))
    raise ClipinError(
        f"{weights.origin} has arrays {first_few(list(weights.names()))}: of files "
        f"without a description we read only {known}"
    )
