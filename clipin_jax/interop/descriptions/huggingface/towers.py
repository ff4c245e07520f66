"""Folders of transformers' single towers: `ViTModel` and `BertModel`.

Models that add a head to one of them have the same names behind a prefix. Folders of
sentence-transformers are folders of `BertModel` with a file for the pooling.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipin_jax.errors import ClipinError
from clipin_jax.interop.descriptions.huggingface.files import (
    CONFIG,
    WEIGHTS,
    image_sizes,
    require,
    tokenizer_file,
    tower_settings,
    word_pieces,
)
from clipin_jax.interop.descriptions.huggingface.images import SQUASH, preparation
from clipin_jax.interop.descriptions.json_files import read_json
from clipin_jax.interop.folders import open_folder
from clipin_jax.interop.foreign_model import ForeignModel
from clipin_jax.interop.tables.bert import bert_table
from clipin_jax.interop.tables.vit import vit_model_table
from clipin_jax.interop.weights import Weights, renamed

_TOWER = dict(
    hidden_size=768,
    intermediate_size=3072,
    num_hidden_layers=12,
    num_attention_heads=12,
    hidden_act="gelu",
    layer_norm_eps=1e-12,
)
_VIT = _TOWER | dict(image_size=224, patch_size=16)
_BERT = _TOWER | dict(max_position_embeddings=512, vocab_size=30522, type_vocab_size=2)
_OLD_NORMS = ((".gamma", ".weight"), (".beta", ".bias"))  # of the first BERTs
_POOLING = "1_Pooling/config.json"  # of sentence-transformers
_POOLS = {"cls_token": "first", "mean_tokens": "mean"}
# Newer files have a name in place of a flag for each pooling.
_NAMED_POOLS = {"cls": "first", "mean": "mean"}


def open_vit_model(folder: Path, content: Mapping[str, Any]) -> ForeignModel:
    """Opens a folder of `ViTModel`, an image tower; heads behind it are left out.

    Args:
      folder: of the model.
      content: of its config.json.

    Raises:
      ClipinError: files are missing or damaged, or state what our models do not have.
    """
    weights, vit = open_folder(folder, WEIGHTS), {**_VIT, **content}
    settings = {
        "model.image.name": "vit",
        **tower_settings("model.image", vit, folder / CONFIG),
        **image_sizes(vit["image_size"], vit["patch_size"]),
        "model.image.patch_bias": True,
        "model.image.pool": "cls",
        "model.image.pre_norm": False,
        **preparation(folder, plain_size=SQUASH),
    }
    return ForeignModel(
        label=f"the ViTModel in {folder}",
        weights=weights,
        table=vit_model_table(_prefix(weights, "vit.")),
        config="",
        settings=settings,
    )


def open_bert_model(folder: Path, content: Mapping[str, Any]) -> ForeignModel:
    """Opens a folder of `BertModel`, a text tower; heads behind it are left out.

    Args:
      folder: of the model.
      content: of its config.json.

    Raises:
      ClipinError: files are missing or damaged, or state what our models do not have.
    """
    weights = renamed(open_folder(folder, WEIGHTS), _OLD_NORMS)
    bert = {**_BERT, **content}
    fixed = dict(position_embedding_type="absolute", is_decoder=False, pad_token_id=0)
    require(bert, folder / CONFIG, **fixed)
    settings = {
        "model.text.name": "bert",
        **tower_settings("model.text", bert, folder / CONFIG),
        "model.text.context_length": bert["max_position_embeddings"],
        "model.text.vocab_size": bert["vocab_size"],
        "model.text.token_types": bert["type_vocab_size"],
        "model.text.pad_id": 0,
        **_pool(folder / _POOLING),
        **word_pieces(folder),
    }
    return ForeignModel(
        label=f"the BertModel in {folder}",
        weights=weights,
        table=bert_table(_prefix(weights, "bert.")),
        config="",
        settings=settings,
        tokenizer=tokenizer_file(folder),
    )


def _prefix(weights: Weights, prefix: str) -> str:
    """Returns the prefix if names have it, else ""."""
    return prefix if any(name.startswith(prefix) for name in weights.names()) else ""


def _pool(path: Path) -> dict[str, str]:
    """Returns the setting of sentence-transformers' pooling; {} without its file."""
    if not path.is_file():
        return {}
    content = read_json(path)
    start = "pooling_mode_"
    flags = [key.removeprefix(start) for key, on in content.items() if on is True]
    pools = [_POOLS.get(flag) for flag in flags if f"{start}{flag}" in content]
    if "pooling_mode" in content:
        pools = [_NAMED_POOLS.get(str(content["pooling_mode"]))]
    if len(pools) != 1 or pools[0] is None:
        raise ClipinError(
            f"{path} has another pooling than the first token or the mean of all, the "
            "only ones that our text tower has"
        )
    return {"model.text.pool": pools[0]}
