"""The names of BERT in transformers, and of the text towers of ALBEF and BLIP.

Source: huggingface/transformers, `modeling_bert.py`, `modeling_blip.py`;
salesforce/ALBEF, `models/xbert.py`; salesforce/BLIP, `models/med.py`.
"""

from collections.abc import Iterator

from clipin_jax.interop.layouts import TORCH_PATCHES, leading
from clipin_jax.interop.table import Row, Table, linear, norm, same
from clipin_jax.interop.tables.vit import TOWER as IMAGE
from clipin_jax.interop.tables.vit import timm_rows

TEXT = "towers/text"
# Buffers, the queue of negatives, momentum copies.
IGNORED = (r"position_ids$", r"_queue$", r"queue_ptr$", r"^idx_queue", r"^\w+?_m\.")
# The decoder shares all but its self-attention and head with the encoder.
SHARED = (
    r"^text_decoder\.bert\.embeddings\.",
    r"^text_decoder\.bert\.encoder\.layer\.\d+\.(crossattention|intermediate|output)\.",
    r"^text_decoder\.cls\.predictions\.decoder\.",
)
TIED = (r"^text_encoder\.cls\.predictions\.decoder\.",)  # the word table


def bert_table(prefix: str = "") -> Table:
    """Returns the names of `BertModel`; its pooler is left out."""
    rows = [*_embeddings(prefix), *_layer("layers/blocks_{n}", f"{prefix}{LAYER}")]
    return Table(rows, (*IGNORED, r"^(bert\.)?pooler\.", r"^cls\."))


LAYER = "encoder.layer.{n}"


def albef_table(text_depth: int, depth: int) -> Table:
    """Returns the names of ALBEF.

    Args:
      text_depth: layers of the text tower that see no image.
      depth: all layers of the text tower.
    """
    text = "text_encoder.bert."
    rows = [*timm_rows("visual_encoder."), *_embeddings(text), *_heads("temp")]
    rows += _word_head("text_encoder.cls.predictions")
    for layer in range(depth):
        theirs = f"{text}encoder.layer.{layer}"
        if layer < text_depth:
            rows += _layer(f"text_layers/blocks_{layer}", theirs)
        else:
            ours = f"fusion_layers/blocks_{layer - text_depth}"
            rows += [*_layer(ours, theirs), *_cross_attention(ours, theirs)]
    return Table(rows, (*IGNORED, *TIED))


def blip_table() -> Table:
    """Returns the names of BLIP."""
    return Table(
        [*timm_rows("visual_encoder."), *_blip_text(), *_heads("temp"), *_decoder()],
        (*IGNORED, *SHARED, *TIED),
    )


def blip_retrieval_table() -> Table:
    """Returns the names of `BlipForImageTextRetrieval`."""
    rows = [*_blip_vision("vision_model"), *_blip_text(), *_heads("temp")]
    return Table(rows, IGNORED)


def _heads(temperature: str) -> Iterator[Row]:
    yield same("objectives_momentum_contrastive/temperature/value", temperature)
    yield from linear("towers/image_projection", "vision_proj")
    yield from linear("towers/text_projection", "text_proj")
    yield from linear("objectives_matching/head", "itm_head")


def _blip_text() -> Iterator[Row]:
    ours, theirs = "layers/blocks_{n}", f"text_encoder.{LAYER}"
    yield from _embeddings("text_encoder.", token_types=False)
    yield from _layer(ours, theirs)
    yield from _cross_attention(ours, theirs)


def _decoder() -> Iterator[Row]:
    ours, theirs = f"{TEXT}/layers/blocks_{{n}}", f"text_decoder.bert.{LAYER}"
    yield from _attention(f"{ours}/decoder_attention", f"{theirs}.attention")
    yield from _word_head("text_decoder.cls.predictions")


def _word_head(theirs: str) -> Iterator[Row]:
    head = f"{TEXT}/head"
    yield from linear(f"{head}/dense", f"{theirs}.transform.dense")
    yield from norm(f"{head}/ln", f"{theirs}.transform.LayerNorm")
    yield same(f"{head}/bias", f"{theirs}.bias")


def _embeddings(prefix: str, *, token_types: bool = True) -> Iterator[Row]:
    ours, theirs = f"{TEXT}/embeddings", f"{prefix}embeddings"
    kinds = ("word", "position", "token_type") if token_types else ("word", "position")
    for kind in kinds:
        table = f"{theirs}.{kind}_embeddings.weight"
        yield same(f"{ours}/{kind}_embedding/embedding", table)
    yield from norm(f"{ours}/ln", f"{theirs}.LayerNorm")


def _layer(ours: str, theirs: str) -> Iterator[Row]:
    ours = f"{TEXT}/{ours}"
    yield from _attention(f"{ours}/self_attention", f"{theirs}.attention")
    yield from linear(f"{ours}/mlp_in", f"{theirs}.intermediate.dense")
    yield from linear(f"{ours}/mlp_out", f"{theirs}.output.dense")
    yield from norm(f"{ours}/ln", f"{theirs}.output.LayerNorm")


def _cross_attention(ours: str, theirs: str) -> Iterator[Row]:
    yield from _attention(f"{TEXT}/{ours}/cross_attention", f"{theirs}.crossattention")


def _attention(ours: str, theirs: str) -> Iterator[Row]:
    for part in ("query", "key", "value"):
        yield from linear(f"{ours}/{part}", f"{theirs}.self.{part}")
    yield from linear(f"{ours}/out", f"{theirs}.output.dense")
    yield from norm(f"{ours}/ln", f"{theirs}.output.LayerNorm")


def _blip_vision(theirs: str) -> Iterator[Row]:
    embeddings, block = f"{theirs}.embeddings", f"{IMAGE}/transformer/blocks_{{n}}"
    token = f"{embeddings}.class_embedding"
    yield Row((f"{IMAGE}/class_embedding",), (token,), leading(2))
    table = f"{embeddings}.position_embedding"
    yield Row((f"{IMAGE}/position_embedding",), (table,), leading(1))
    kernel = (f"{IMAGE}/patch_embed/kernel",), (f"{embeddings}.patch_embedding.weight",)
    yield Row(*kernel, TORCH_PATCHES)
    yield same(f"{IMAGE}/patch_embed/bias", f"{embeddings}.patch_embedding.bias")
    layer = f"{theirs}.encoder.layers.{{n}}"
    yield from norm(f"{block}/ln_1", f"{layer}.layer_norm1")
    yield from norm(f"{block}/ln_2", f"{layer}.layer_norm2")
    yield from linear(f"{block}/attention/qkv", f"{layer}.self_attn.qkv")
    yield from linear(f"{block}/attention/out", f"{layer}.self_attn.projection")
    yield from linear(f"{block}/mlp_in", f"{layer}.mlp.fc1")
    yield from linear(f"{block}/mlp_out", f"{layer}.mlp.fc2")
    yield from norm(f"{IMAGE}/ln_post", f"{theirs}.post_layernorm")
