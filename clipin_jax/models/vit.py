"""Vision transformer, by default in OpenAI CLIP's form (openai/CLIP, `clip/model.py`).

Without the norm before the blocks it is the plain one of arXiv 2010.11929, which most
other codes build on (google-research/big_vision, `models/vit.py`).
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import LayerNorm, Linear, check_option, shard_batch
from clipin_jax.models.pooling import AttentionPool
from clipin_jax.models.transformer import (
    PYTORCH_INIT,
    XAVIER_INIT,
    BlockOptions,
    Transformer,
    blocks_of,
)
from clipin_jax.types import Array, TowerFeatures

INITIALIZERS = {  # of the blocks and of the patch embedding
    "pytorch": (PYTORCH_INIT, dict()),
    "xavier": (
        XAVIER_INIT,
        dict(
            kernel_init=nn.initializers.lecun_normal(),
            bias_init=nn.initializers.zeros,
        ),
    ),
}


class PatchTransformer(nn.Module):
    """Patches, positions, blocks with norms inside: the trunk of vision transformers.

    A tower with this trunk calls `encode_patches`, then pools. The default sizes are
    those of ViT-B/16.

    Attributes:
      patch_size: height and width of a patch in pixels.
      image_size: height and width for which the position table is learned; for images
        of another size the table is resized.
      width: D of every token.
      depth: number of blocks.
      num_heads: of attention; divides the width.
      mlp_ratio: width inside the perceptrons, in units of the width.
      patch_bias: whether the patch embedding has a bias.
      pre_norm: whether there is a norm before the blocks too.
      activation: a key of `transformer.ACTIVATIONS`.
      norm_eps: added to the variance by layer norms.
      initializer: a key of `INITIALIZERS`. `xavier`: Xavier-uniform blocks with
        perceptron biases N(0, 1e-6), LeCun-normal patches. Positions always start as
        N(0, 1/width).
      scan_layers: see `transformer.apply_layers`.
      remat: what the backward pass keeps of a block, a key of `remat.POLICIES`.
      attention: one of `attention.choice.IMPLEMENTATIONS`.
    """

    # Parameters from input to output, see `core.parameter_groups.layer_factors`.
    layer_order: ClassVar[tuple[str, ...]] = (
        r"^\w*embed|^ln_pre/",
        blocks_of("transformer"),
    )
    patch_size: tuple[int, int] = (16, 16)
    image_size: tuple[int, int] = (224, 224)
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4
    patch_bias: bool = False
    pre_norm: bool = True
    activation: str = "quick_gelu"
    norm_eps: float = 1e-5
    initializer: str = "pytorch"
    scan_layers: bool = False
    remat: str = "none"
    attention: str = "auto"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @property
    def dtypes(self) -> dict[str, Any]:
        """`dtype` and `param_dtype`."""
        return dict(dtype=self.dtype, param_dtype=self.param_dtype)

    def encode_patches(self, image: Array, class_token: bool) -> Array:
        """Runs the trunk; to be called in a compact method.

        Args:
          image: [B, H, W, C] float, normalised; H and W multiples of the patch.
          class_token: whether a learned token is the first.

        Returns:
          [B, N, D], not normalised.

        Raises:
          ClipinError: the image is no multiple of the patch, or an unknown
            initialisation.
        """
        check_option("model.image.initializer", self.initializer, INITIALIZERS)
        block_init, patch_init = INITIALIZERS[self.initializer]
        patches = patchify(image, self.patch_size)
        x = Linear(
            self.width, use_bias=self.patch_bias, **patch_init, **self.dtypes,
            name="patch_embed",
        )(patches)  # fmt: skip
        position_init = nn.initializers.normal(self.width**-0.5)
        if class_token:
            shape = (self.width,)
            token = self.param(
                "class_embedding", position_init, shape, self.param_dtype
            )
            token = jnp.broadcast_to(token.astype(x.dtype), (x.shape[0], 1, self.width))
            x = jnp.concatenate([token, x], axis=1)
        native = self.grid(self.image_size)
        shape = (int(class_token) + native[0] * native[1], self.width)
        table = self.param("position_embedding", position_init, shape, self.param_dtype)
        grid = patch_grid(image.shape[1:3], self.patch_size)
        table = resize_position_embedding(table, native, grid)
        x = shard_batch(x + table.astype(x.dtype))
        if self.pre_norm:
            x = LayerNorm(self.norm_eps, **self.dtypes, name="ln_pre")(x)
        options = BlockOptions(
            num_heads=self.num_heads,
            mlp_ratio=self.mlp_ratio,
            activation=self.activation,
            norm_eps=self.norm_eps,
            initializers=block_init,
            **self.dtypes,
            attention=self.attention,
        )
        return Transformer(
            depth=self.depth,
            options=options,
            scan_layers=self.scan_layers,
            remat=self.remat,
            name="transformer",
        )(x)

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns rows and columns of patches, the last tokens of every block."""
        return patch_grid(size, self.patch_size)


class ViT(PatchTransformer):
    """Vision transformer: the trunk, a final norm, pooling.

    Attributes:
      pool: `cls` (a class token), `mean` (of all tokens) or `map` (attention pooling);
        only `cls` has a class token.
    """

    pools: ClassVar[tuple[str, ...]] = ("cls", "mean", "map")
    patch_layers: ClassVar[tuple[str, ...]] = ("transformer", "pool")
    token_poolers: ClassVar[tuple[str, ...]] = ()
    pool: str = "cls"

    @nn.compact
    def __call__(self, image: Array, train: bool = False) -> TowerFeatures:
        """Encodes images.

        Args:
          image: [B, H, W, C] float, normalised; H and W multiples of the patch.
          train: not used.

        Returns:
          `tokens`: [B, N, D] after the final norm, class token first; `pooled`: [B, D].

        Raises:
          ClipinError: the image is no multiple of the patch, or an unknown pool or
            initialisation.
        """
        check_option("model.image.pool", self.pool, self.pools)
        x = self.encode_patches(image, class_token=self.pool == "cls")
        x = LayerNorm(self.norm_eps, **self.dtypes, name="ln_post")(x)
        if self.pool == "map":
            pooled = AttentionPool(
                num_heads=self.num_heads,
                mlp_ratio=self.mlp_ratio,
                activation=self.activation,
                norm_eps=self.norm_eps,
                **self.dtypes,
                name="pool",
            )(x)
        else:
            pooled = x.mean(axis=1) if self.pool == "mean" else x[:, 0]
        return {"tokens": x, "pooled": pooled}

    @property
    def poolers(self) -> tuple[str, ...]:
        """The submodules that make `pooled` from the patches, see `PatchTower`."""
        return ("pool",) if self.pool == "map" else ()

    @property
    def summary_row(self) -> int | None:
        """The token of the whole image in a block, see `PatchTower`."""
        return 0 if self.pool == "cls" else None


def patch_grid(size: tuple[int, ...], patch: tuple[int, int]) -> tuple[int, int]:
    """Returns rows and columns of patches.

    Args:
      size: height and width of an image in pixels.
      patch: height and width of a patch in pixels.

    Raises:
      ClipinError: the size is no multiple of the patch, or one of them no pair.
    """
    if len(size) != 2 or len(patch) != 2:
        raise ClipinError(
            f"model.image.image_size is {size} and model.image.patch_size {patch}: "
            "give pairs of height and width"
        )
    if size[0] % patch[0] or size[1] % patch[1]:
        raise ClipinError(
            f"an image of {size[0]}x{size[1]} pixels cannot be cut into patches of "
            f"{patch[0]}x{patch[1]}: choose model.image.image_size as a multiple of "
            "model.image.patch_size"
        )
    return size[0] // patch[0], size[1] // patch[1]


def patchify(image: Array, patch: tuple[int, int]) -> Array:
    """Cuts images into flat patches, so that the patch convolution is one product.

    Args:
      image: [B, H, W, C].
      patch: height and width of a patch.

    Returns:
      [B, N, patch height * patch width * C], rows of the grid first.
    """
    rows, columns = patch_grid(image.shape[1:3], patch)
    x = image.reshape(image.shape[0], rows, patch[0], columns, patch[1], -1)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(image.shape[0], rows * columns, -1)


def resize_position_embedding(
    table: Array, old: tuple[int, int], new: tuple[int, int]
) -> Array:
    """Resizes a table of positions to another grid: bicubic with anti-aliasing.

    Source: mlfoundations/open_clip, `resize_pos_embed`; rows outside of the grid (the
    class token) are kept.

    Args:
      table: [extra + old rows * old columns, D].
      old: rows and columns of the table's grid.
      new: rows and columns of the result's grid.

    Returns:
      [extra + new rows * new columns, D].
    """
    if old == new:
        return table
    extra = table.shape[0] - old[0] * old[1]
    grid = table[extra:].reshape(*old, -1)
    grid = jax.image.resize(grid, (*new, grid.shape[-1]), "cubic", antialias=True)
    return jnp.concatenate([table[:extra], grid.reshape(new[0] * new[1], -1)])
