"""The names of open_clip, OpenAI's CLIP and the released CLIPin.

Source: mlfoundations/open_clip, `model.py`, `coca_model.py`; openai/CLIP, `model.py`;
CLIPin's code (arXiv 2508.06434), which has open_clip's names and its own heads.
"""

from collections.abc import Iterator

from clipin_jax.interop.layouts import CONVOLUTION, TORCH_PATCHES, TRANSPOSED
from clipin_jax.interop.table import (
    Row,
    Table,
    batch_norm,
    linear,
    norm,
    parted_attention,
    same,
)
from clipin_jax.interop.tables.vit import timm_pool, timm_rows

SCALE = "objectives_contrastive/logit_scale"
# Counts of batches, masks that are not learned, and sizes in OpenAI's archives.
IGNORED = (
    r"num_batches_tracked$",
    r"(^|\.)attn_mask$",
    r"^(input_resolution|context_length|vocab_size)$",
)
# Momentum copies in the released CLIPin.
MOMENTUM = (r"^(visual|TextEncoder|text_proj_\w+)_m\.",)


def clip_table() -> Table:
    """Returns the names of CLIP with a ViT."""
    return Table(
        [*_vit("visual"), same("towers/image_projection/kernel", "visual.proj"),
         *_text(""), same(SCALE, "logit_scale")],
        IGNORED,
    )  # fmt: skip


def custom_text_table() -> Table:
    """Returns the names of CLIP with a ViT whose text tower is a module of its own."""
    return Table(
        [*_vit("visual"), same("towers/image_projection/kernel", "visual.proj"),
         *_text("text."), same(SCALE, "logit_scale")],
        IGNORED,
    )  # fmt: skip


def resnet_table() -> Table:
    """Returns the names of CLIP with a modified residual network."""
    return Table([*_resnet(), *_text(""), same(SCALE, "logit_scale")], IGNORED)


def coca_table(*, equal_widths: bool = False) -> Table:
    """Returns the names of CoCa.

    Args:
      equal_widths: whether the image tower is as wide as the joint space. PyTorch keeps
        the projections of its attention pool in one matrix only then.
    """
    return Table(
        [*_vit("visual"), *_caption_pool(equal_widths), *_coca_text(),
         same("towers/image_projection/kernel", "visual.proj"),
         same(SCALE, "logit_scale")],
        IGNORED,
    )  # fmt: skip


def siglip_table() -> Table:
    """Returns the names of SigLIP, whose image tower is timm's."""
    trunk = "visual.trunk."
    rows = [
        *timm_rows(trunk), *timm_pool(trunk), *_text("text.", projection=False),
        *linear("towers/text_projection", "text.text_projection"),
        same("objectives_sigmoid/logit_scale", "logit_scale"),
        same("objectives_sigmoid/logit_bias", "logit_bias"),
    ]  # fmt: skip
    return Table(rows, IGNORED)


def clipin_table() -> Table:
    """Returns the names of the released CLIPin; its momentum copies are left out."""
    clipin = "objectives_clipin"
    rows = [
        *_vit("visual"), *_text("TextEncoder.", projection=False),
        same(SCALE, "logit_scale"),
        same("objectives_contrastive/learned_weight/value", "lambda_combine"),
        same(f"{clipin}/learned_intra_weight/value", "lambda_selfalign"),
        *linear("towers/image_projection", "img_proj_contrast"),
        *linear("towers/text_projection", "text_proj_contrast"),
        *linear("towers/image_pre_projector", "visual.img_proj_front"),
        *linear("towers/text_pre_projector", "text_proj_front"),
    ]  # fmt: skip
    for ours, theirs in (("image", "visual.img"), ("text", "text")):
        projector = f"{clipin}/{ours}_projector"
        rows += batch_norm(f"{projector}/norm", f"{theirs}_proj_noncontrast.0")
        rows += linear(f"{projector}/out", f"{theirs}_proj_noncontrast.2")
    for ours, theirs in PREDICTORS.items():
        predictor = f"{clipin}/predictors_{ours}"
        rows += linear(f"{predictor}/hidden", f"{theirs}_layer1.0")
        rows += batch_norm(f"{predictor}/norm", f"{theirs}_layer1.1")
        rows += linear(f"{predictor}/out", f"{theirs}_layer2")
    return Table(rows, (*IGNORED, *MOMENTUM))


PREDICTORS = {
    "image_to_text": "pred",
    "text_to_image": "text_pred",
    "image_to_image": "pred_self",
    "text_to_text": "text_pred_self",
}


def _vit(prefix: str) -> Iterator[Row]:
    tower = "towers/image"
    yield same(f"{tower}/class_embedding", f"{prefix}.class_embedding")
    yield same(f"{tower}/position_embedding", f"{prefix}.positional_embedding")
    patches = (f"{tower}/patch_embed/kernel",), (f"{prefix}.conv1.weight",)
    yield Row(*patches, TORCH_PATCHES)
    yield from norm(f"{tower}/ln_pre", f"{prefix}.ln_pre")
    yield from norm(f"{tower}/ln_post", f"{prefix}.ln_post")
    yield from _blocks(f"{tower}/transformer", f"{prefix}.transformer")


def _text(prefix: str, *, projection: bool = True) -> Iterator[Row]:
    tower = "towers/text"
    table = f"{prefix}token_embedding.weight"
    yield same(f"{tower}/token_embedding/embedding", table)
    yield same(f"{tower}/position_embedding", f"{prefix}positional_embedding")
    yield from _blocks(f"{tower}/transformer", f"{prefix}transformer")
    yield from norm(f"{tower}/ln_final", f"{prefix}ln_final")
    if projection:
        yield same("towers/text_projection/kernel", f"{prefix}text_projection")


def _blocks(ours: str, theirs: str) -> Iterator[Row]:
    yield from _block(f"{ours}/blocks_{{n}}", f"{theirs}.resblocks.{{n}}")


def _block(ours: str, theirs: str) -> Iterator[Row]:
    attention = f"{ours}/attention"
    kernel = (f"{attention}/qkv/kernel",), (f"{theirs}.attn.in_proj_weight",)
    yield Row(*kernel, TRANSPOSED)
    yield same(f"{attention}/qkv/bias", f"{theirs}.attn.in_proj_bias")
    yield from linear(f"{attention}/out", f"{theirs}.attn.out_proj")
    yield from _norms_and_perceptron(ours, theirs)


def _norms_and_perceptron(ours: str, theirs: str) -> Iterator[Row]:
    yield from norm(f"{ours}/ln_1", f"{theirs}.ln_1")
    yield from norm(f"{ours}/ln_2", f"{theirs}.ln_2")
    yield from linear(f"{ours}/mlp_in", f"{theirs}.mlp.c_fc")
    yield from linear(f"{ours}/mlp_out", f"{theirs}.mlp.c_proj")


def _caption_pool(equal_widths: bool) -> Iterator[Row]:
    ours, theirs = "towers/image/caption_pool", "visual.attn_pool"
    yield same(f"{ours}/query", f"{theirs}.query")
    yield from norm(f"{ours}/ln_query", f"{theirs}.ln_q")
    yield from norm(f"{ours}/ln_key", f"{theirs}.ln_k")
    attention = f"{ours}/attention", f"{theirs}.attn"
    yield from parted_attention(*attention, one_matrix=equal_widths)


def _coca_text() -> Iterator[Row]:
    tower = "towers/text"
    yield from _text("text.")
    yield same(f"{tower}/class_embedding", "text.cls_emb")
    yield same(f"{tower}/vocabulary/kernel", "text_decoder.text_projection")
    yield from norm(f"{tower}/ln_decoder", "text_decoder.ln_final")
    blocks = f"{tower}/decoder/blocks_{{n}}"
    yield from _block(f"{blocks}/self", "text_decoder.resblocks.{n}")
    cross = "text_decoder.cross_attn.{n}"
    yield from parted_attention(f"{blocks}/cross/attention", f"{cross}.attn")
    yield from norm(f"{blocks}/cross/ln_context", f"{cross}.ln_1_kv")
    yield from _norms_and_perceptron(f"{blocks}/cross", cross)


def _resnet() -> Iterator[Row]:
    tower, layers = "towers/image", ("reduce", "spatial", "expand")
    for i in range(3):
        yield from _convolution(f"{tower}/stem_{i}", f"visual.conv{i + 1}")
        yield from batch_norm(f"{tower}/stem_{i}/norm", f"visual.bn{i + 1}")
    for stage in range(4):
        ours = f"{tower}/stage_{stage}_block_{{n}}"
        theirs = f"visual.layer{stage + 1}.{{n}}"
        for i, layer in enumerate(layers, 1):
            yield from _convolution(f"{ours}/{layer}", f"{theirs}.conv{i}")
            yield from batch_norm(f"{ours}/{layer}/norm", f"{theirs}.bn{i}")
        yield from _convolution(f"{ours}/shortcut", f"{theirs}.downsample.0")
        yield from batch_norm(f"{ours}/shortcut/norm", f"{theirs}.downsample.1")
    pool = f"{tower}/pool"
    yield same(f"{pool}/position_embedding", "visual.attnpool.positional_embedding")
    for ours, theirs in (("query_in", "q"), ("key_in", "k"), ("value_in", "v")):
        yield from linear(f"{pool}/{ours}", f"visual.attnpool.{theirs}_proj")
    yield from linear(f"{pool}/out", "visual.attnpool.c_proj")


def _convolution(ours: str, theirs: str) -> Iterator[Row]:
    yield Row((f"{ours}/conv/kernel",), (f"{theirs}.weight",), CONVOLUTION)
