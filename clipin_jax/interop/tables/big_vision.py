"""The names of big_vision in a flax checkpoint: SigLIP's two towers, a ViT alone.

Source: google-research/big_vision, `models/vit.py`,
`models/proj/image_text/two_towers.py` and `text_transformer.py`.
"""

from collections.abc import Iterator

from clipin_jax.interop.layouts import (
    CLASS_TOKEN,
    FLAX_PATCHES,
    SAME,
    Layout,
    heads,
    joined,
    leading,
)
from clipin_jax.interop.table import Row, Table, same


def siglip_table(image_heads: int, text_heads: int) -> Table:
    """Returns the names of SigLIP, with a file's parts joined by slashes.

    Args:
      image_heads, text_heads: heads of attention of each tower.
    """
    return Table(
        [*_image(image_heads, "img/"), *_text(text_heads),
         Row(("objectives_sigmoid/logit_scale",), ("t",), leading(1)),
         Row(("objectives_sigmoid/logit_bias",), ("b",), leading(1))],
    )  # fmt: skip


def vit_table(num_heads: int, *, class_token: bool) -> Table:
    """Returns the names of a ViT; its classifier is left out.

    Args:
      num_heads: of attention.
      class_token: whether it has one.
    """
    rows = _image(num_heads, "", class_token=class_token)
    return Table(rows, (r"^(head|pre_logits)/",))


def _image(num_heads: int, prefix: str, *, class_token: bool = False) -> Iterator[Row]:
    tower = "towers/image"
    kernel = (f"{tower}/patch_embed/kernel",), (f"{prefix}embedding/kernel",)
    yield Row(*kernel, FLAX_PATCHES)
    yield same(f"{tower}/patch_embed/bias", f"{prefix}embedding/bias")
    if class_token:
        ours = f"{tower}/class_embedding", f"{tower}/position_embedding"
        yield Row(ours, (f"{prefix}cls", f"{prefix}pos_embedding"), CLASS_TOKEN)
    else:
        yield from _positions(tower, prefix)
    encoder = f"{prefix}Transformer"
    yield from _blocks(f"{tower}/transformer", encoder, num_heads)
    yield from _both(f"{tower}/ln_post", f"{encoder}/encoder_norm", "scale")
    yield from _pool(f"{tower}/pool", f"{prefix}MAPHead_0", num_heads)


def _text(num_heads: int) -> Iterator[Row]:
    tower, theirs = "towers/text", "txt"
    yield same(f"{tower}/token_embedding/embedding", f"{theirs}/Embed_0/embedding")
    yield from _positions(tower, f"{theirs}/")
    encoder = f"{theirs}/Encoder_0"
    yield from _blocks(f"{tower}/transformer", encoder, num_heads)
    yield from _both(f"{tower}/ln_final", f"{encoder}/encoder_norm", "scale")
    yield from _both("towers/text_projection", f"{theirs}/head", "kernel")


def _positions(tower: str, prefix: str) -> Iterator[Row]:
    ours = (f"{tower}/position_embedding",)
    yield Row(ours, (f"{prefix}pos_embedding",), leading(1))


def _blocks(ours: str, theirs: str, num_heads: int) -> Iterator[Row]:
    ours, theirs = f"{ours}/blocks_{{n}}", f"{theirs}/encoderblock_{{n}}"
    yield from _both(f"{ours}/ln_1", f"{theirs}/LayerNorm_0", "scale")
    yield from _both(f"{ours}/ln_2", f"{theirs}/LayerNorm_1", "scale")
    attention = f"{theirs}/MultiHeadDotProductAttention_0"
    for leaf, axis in (("kernel", 1), ("bias", 0)):
        names = tuple(f"{attention}/{part}/{leaf}" for part in QUERY_KEY_VALUE)
        layout = joined(heads(axis, num_heads), len(names))
        yield Row((f"{ours}/attention/qkv/{leaf}",), names, layout)
    yield from _out(f"{ours}/attention/out", f"{attention}/out", num_heads)
    yield from _perceptron(ours, f"{theirs}/MlpBlock_0")


QUERY_KEY_VALUE = ("query", "key", "value")


def _out(ours: str, theirs: str, num_heads: int) -> Iterator[Row]:
    kernel = (f"{ours}/kernel",), (f"{theirs}/kernel",)
    yield Row(*kernel, heads(0, num_heads))
    yield same(f"{ours}/bias", f"{theirs}/bias")


def _pool(ours: str, theirs: str, num_heads: int) -> Iterator[Row]:
    yield Row((f"{ours}/query",), (f"{theirs}/probe",), leading(1))
    attention = f"{theirs}/MultiHeadDotProductAttention_0"
    for part in QUERY_KEY_VALUE:
        of_part = f"{ours}/{part}_in", f"{attention}/{part}"
        yield from _both(*of_part, "kernel", heads(1, num_heads), heads(0, num_heads))
    yield from _out(f"{ours}/out", f"{attention}/out", num_heads)
    yield from _both(f"{ours}/ln", f"{theirs}/LayerNorm_0", "scale")
    yield from _perceptron(ours, f"{theirs}/MlpBlock_0")


def _perceptron(ours: str, theirs: str) -> Iterator[Row]:
    yield from _both(f"{ours}/mlp_in", f"{theirs}/Dense_0", "kernel")
    yield from _both(f"{ours}/mlp_out", f"{theirs}/Dense_1", "kernel")


def _both(
    ours: str, theirs: str, leaf: str, layout: Layout = SAME, bias: Layout = SAME
) -> Iterator[Row]:
    """Yields the rows of a kernel or scale and of its bias."""
    yield Row((f"{ours}/{leaf}",), (f"{theirs}/{leaf}",), layout)
    yield Row((f"{ours}/bias",), (f"{theirs}/bias",), bias)
