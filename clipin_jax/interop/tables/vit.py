"""The names of single image towers: timm's ViT and transformers' `ViTModel`.

Source: huggingface/pytorch-image-models, `vision_transformer.py`; huggingface/
transformers, `modeling_vit.py`.
"""

from collections.abc import Iterator

from clipin_jax.interop.layouts import SAME, TORCH_PATCHES, TRANSPOSED, leading, parted
from clipin_jax.interop.table import Row, Table, fused, linear, norm

TOWER = "towers/image"


def timm_table() -> Table:
    """Returns the names of timm's ViT; its classifier is left out."""
    return Table([*timm_rows(), *timm_pool()], (r"^(head|head_drop)\.",))


def vit_model_table(prefix: str = "") -> Table:
    """Returns the names of `ViTModel`; its pooler and a classifier are left out."""
    ignored = (r"^(vit\.)?pooler\.", r"^classifier\.", r"embeddings\.mask_token$")
    return Table(_vit_model(prefix), ignored)


def timm_rows(prefix: str = "") -> Iterator[Row]:
    """Yields the rows of timm's ViT, up to its last norm."""
    yield from _tables(f"{prefix}cls_token", f"{prefix}pos_embed")
    yield from patches(f"{prefix}patch_embed.proj")
    block, theirs = f"{TOWER}/transformer/blocks_{{n}}", f"{prefix}blocks.{{n}}"
    yield from norm(f"{block}/ln_1", f"{theirs}.norm1")
    yield from norm(f"{block}/ln_2", f"{theirs}.norm2")
    yield from linear(f"{block}/attention/qkv", f"{theirs}.attn.qkv")
    yield from linear(f"{block}/attention/out", f"{theirs}.attn.proj")
    yield from linear(f"{block}/mlp_in", f"{theirs}.mlp.fc1")
    yield from linear(f"{block}/mlp_out", f"{theirs}.mlp.fc2")
    yield from norm(f"{TOWER}/ln_post", f"{prefix}norm")


def timm_pool(prefix: str = "") -> Iterator[Row]:
    """Yields the rows of timm's `AttentionPoolLatent`, that of SigLIP."""
    ours, theirs = f"{TOWER}/pool", f"{prefix}attn_pool"
    yield Row((f"{ours}/query",), (f"{theirs}.latent",), leading(1))
    yield from linear(f"{ours}/query_in", f"{theirs}.q")
    for leaf, name, layout in (
        ("kernel", "weight", TRANSPOSED),
        ("bias", "bias", SAME),
    ):
        both = f"{ours}/key_in/{leaf}", f"{ours}/value_in/{leaf}"
        yield Row(both, (f"{theirs}.kv.{name}",), parted(layout, 2))
    yield from linear(f"{ours}/out", f"{theirs}.proj")
    yield from norm(f"{ours}/ln", f"{theirs}.norm")
    yield from linear(f"{ours}/mlp_in", f"{theirs}.mlp.fc1")
    yield from linear(f"{ours}/mlp_out", f"{theirs}.mlp.fc2")


def patches(theirs: str) -> Iterator[Row]:
    """Yields the rows of a patch embedding with bias."""
    ours = f"{TOWER}/patch_embed"
    yield Row((f"{ours}/kernel",), (f"{theirs}.weight",), TORCH_PATCHES)
    yield Row((f"{ours}/bias",), (f"{theirs}.bias",))


def _tables(token: str, position: str) -> Iterator[Row]:
    yield Row((f"{TOWER}/class_embedding",), (token,), leading(2))
    yield Row((f"{TOWER}/position_embedding",), (position,), leading(1))


def _vit_model(prefix: str) -> Iterator[Row]:
    embeddings = f"{prefix}embeddings"
    yield from _tables(f"{embeddings}.cls_token", f"{embeddings}.position_embeddings")
    yield from patches(f"{embeddings}.patch_embeddings.projection")
    block, theirs = f"{TOWER}/transformer/blocks_{{n}}", f"{prefix}encoder.layer.{{n}}"
    yield from norm(f"{block}/ln_1", f"{theirs}.layernorm_before")
    yield from norm(f"{block}/ln_2", f"{theirs}.layernorm_after")
    attention = f"{theirs}.attention.attention.{{x}}"
    parts = ("query", "key", "value")
    yield from fused(f"{block}/attention/qkv", attention, parts)
    yield from linear(f"{block}/attention/out", f"{theirs}.attention.output.dense")
    yield from linear(f"{block}/mlp_in", f"{theirs}.intermediate.dense")
    yield from linear(f"{block}/mlp_out", f"{theirs}.output.dense")
    yield from norm(f"{TOWER}/ln_post", f"{prefix}layernorm")
