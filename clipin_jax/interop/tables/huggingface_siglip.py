"""The names of SigLIP and SigLIP 2 in Hugging Face's transformers.

Source: huggingface/transformers, `modeling_siglip.py`, `modeling_siglip2.py`.
"""

from collections.abc import Iterator

from clipin_jax.interop.layouts import (
    TORCH_PATCHES,
    TRANSPOSED,
    Layout,
    leading,
)
from clipin_jax.interop.table import Row, Table, linear, norm, parted_attention, same
from clipin_jax.interop.tables.huggingface_clip import IGNORED, encoder_blocks


def siglip_table() -> Table:
    """Returns the names of `SiglipModel`."""
    return Table([*_vision(TORCH_PATCHES), *_text(), *_logits()], IGNORED)


def siglip2_table() -> Table:
    """Returns the names of `Siglip2Model`, whose patches are cut before a product."""
    return Table([*_vision(TRANSPOSED), *_text(), *_logits()], IGNORED)


def _logits() -> Iterator[Row]:
    for name in ("logit_scale", "logit_bias"):
        yield Row((f"objectives_sigmoid/{name}",), (name,), leading(1))


def _vision(patches: Layout) -> Iterator[Row]:
    tower, theirs = "towers/image", "vision_model"
    embeddings = f"{theirs}.embeddings"
    kernel = (f"{tower}/patch_embed/kernel",), (f"{embeddings}.patch_embedding.weight",)
    yield Row(*kernel, patches)
    yield same(f"{tower}/patch_embed/bias", f"{embeddings}.patch_embedding.bias")
    table = f"{embeddings}.position_embedding.weight"
    yield same(f"{tower}/position_embedding", table)
    yield from encoder_blocks(f"{tower}/transformer", f"{theirs}.encoder.layers")
    yield from norm(f"{tower}/ln_post", f"{theirs}.post_layernorm")
    yield from _pool(f"{tower}/pool", f"{theirs}.head")


def _pool(ours: str, theirs: str) -> Iterator[Row]:
    yield Row((f"{ours}/query",), (f"{theirs}.probe",), leading(1))
    yield from parted_attention(ours, f"{theirs}.attention")
    yield from norm(f"{ours}/ln", f"{theirs}.layernorm")
    yield from linear(f"{ours}/mlp_in", f"{theirs}.mlp.fc1")
    yield from linear(f"{ours}/mlp_out", f"{theirs}.mlp.fc2")


def _text() -> Iterator[Row]:
    tower, theirs = "towers/text", "text_model"
    embeddings = f"{theirs}.embeddings"
    table = f"{embeddings}.token_embedding.weight"
    yield same(f"{tower}/token_embedding/embedding", table)
    table = f"{embeddings}.position_embedding.weight"
    yield same(f"{tower}/position_embedding", table)
    yield from encoder_blocks(f"{tower}/transformer", f"{theirs}.encoder.layers")
    yield from norm(f"{tower}/ln_final", f"{theirs}.final_layer_norm")
    yield from linear("towers/text_projection", f"{theirs}.head")
