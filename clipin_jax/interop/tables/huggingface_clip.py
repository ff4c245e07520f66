"""The names of CLIP in Hugging Face's transformers, and blocks that others share.

Source: huggingface/transformers, `modeling_clip.py`.
"""

from collections.abc import Iterator

from clipin_jax.interop.layouts import TORCH_PATCHES
from clipin_jax.interop.table import Row, Table, fused, linear, matrix, norm, same

IGNORED = (r"\.position_ids$",)  # buffers that older versions wrote


def clip_table() -> Table:
    """Returns the names of `CLIPModel`."""
    tower = "towers/image"
    rows = [
        *_vision(tower, "vision_model"),
        *_text("towers/text", "text_model"),
        matrix("towers/image_projection", "visual_projection"),
        matrix("towers/text_projection", "text_projection"),
        same("objectives_contrastive/logit_scale", "logit_scale"),
    ]
    return Table(rows, IGNORED)


def encoder_blocks(ours: str, theirs: str) -> Iterator[Row]:
    """Yields the rows of pre-norm blocks: ours is the stack, theirs a list."""
    block, layer = f"{ours}/blocks_{{n}}", f"{theirs}.{{n}}"
    yield from fused(f"{block}/attention/qkv", f"{layer}.self_attn.{{x}}_proj")
    yield from linear(f"{block}/attention/out", f"{layer}.self_attn.out_proj")
    yield from norm(f"{block}/ln_1", f"{layer}.layer_norm1")
    yield from norm(f"{block}/ln_2", f"{layer}.layer_norm2")
    yield from linear(f"{block}/mlp_in", f"{layer}.mlp.fc1")
    yield from linear(f"{block}/mlp_out", f"{layer}.mlp.fc2")


def _vision(tower: str, theirs: str) -> Iterator[Row]:
    embeddings = f"{theirs}.embeddings"
    yield same(f"{tower}/class_embedding", f"{embeddings}.class_embedding")
    table = f"{embeddings}.position_embedding.weight"
    yield same(f"{tower}/position_embedding", table)
    kernel = (f"{tower}/patch_embed/kernel",), (f"{embeddings}.patch_embedding.weight",)
    yield Row(*kernel, TORCH_PATCHES)
    # Their spelling.
    yield from norm(f"{tower}/ln_pre", f"{theirs}.pre_layrnorm")
    yield from norm(f"{tower}/ln_post", f"{theirs}.post_layernorm")
    yield from encoder_blocks(f"{tower}/transformer", f"{theirs}.encoder.layers")


def _text(tower: str, theirs: str) -> Iterator[Row]:
    embeddings = f"{theirs}.embeddings"
    table = f"{embeddings}.token_embedding.weight"
    yield same(f"{tower}/token_embedding/embedding", table)
    table = f"{embeddings}.position_embedding.weight"
    yield same(f"{tower}/position_embedding", table)
    yield from encoder_blocks(f"{tower}/transformer", f"{theirs}.encoder.layers")
    yield from norm(f"{tower}/ln_final", f"{theirs}.final_layer_norm")
