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
    Transformer,
    blocks_of,
)
from clipin_jax.types import Array

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


class ViT(nn.Module):
    """Patches, positions, blocks with norms inside, final norm, pooling.

    Attributes:
      patch_size: height and width of a patch in pixels.
      image_size: height and width for which the position table is learned; images of
        another size get a resized table.
      pool: `cls` (a class token), `mean` (of all tokens) or `map` (attention pooling);
        only `cls` has a class token.
      patch_bias: whether the patch embedding has a bias.
      pre_norm: whether a norm stands before the blocks too.
      activation: a key of `transformer.ACTIVATIONS`.
      initializer: a key of `INITIALIZERS`. `xavier`: Xavier-uniform blocks with
        perceptron biases N(0, 1e-6), LeCun-normal patches. Positions always begin as
        N(0, 1/width).
    """

    pools: ClassVar[tuple[str, ...]] = ("cls", "mean", "map")
    # For explanations: what looks at patches, and what the tokens are read by.
    patch_layers: ClassVar[tuple[str, ...]] = ("transformer", "pool")
    token_poolers: ClassVar[tuple[str, ...]] = ()
    # Parameters from input to output, see `core.parameter_groups.layer_factors`.
    layer_order: ClassVar[tuple[str, ...]] = (
        r"^\w*embed|^ln_pre/",
        blocks_of("transformer"),
    )
    patch_size: tuple[int, int]
    image_size: tuple[int, int]
    width: int
    depth: int
    num_heads: int
    mlp_ratio: float = 4
    pool: str = "cls"
    patch_bias: bool = False
    pre_norm: bool = True
    activation: str = "quick_gelu"
    norm_eps: float = 1e-5
    initializer: str = "pytorch"
    scan_layers: bool = False
    remat: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Array, train: bool = False) -> dict[str, Array]:
        """Encodes images.

        Args:
          image: [B, H, W, C] float, normalised; H and W multiples of the patch.

        Returns:
          `tokens`: [B, N, D] after the final norm, class token first; `pooled`: [B, D].

        Raises:
          ClipinError: the image is no multiple of the patch, or an unknown pool or
            initialisation.
        """
        check_option("model.image.pool", self.pool, self.pools)
        check_option("model.image.initializer", self.initializer, INITIALIZERS)
        matrices, patch_init = INITIALIZERS[self.initializer]
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        x = patchify(image, self.patch_size)  # [B, N, patch]
        grid = patch_grid(image.shape[1:3], self.patch_size)
        x = Linear(
            self.width, use_bias=self.patch_bias, **patch_init, **dtypes,
            name="patch_embed",
        )(x)  # fmt: skip
        position = nn.initializers.normal(self.width**-0.5)
        if self.class_token:
            shape = (self.width,)
            token = self.param("class_embedding", position, shape, self.param_dtype)
            token = jnp.broadcast_to(token.astype(x.dtype), (x.shape[0], 1, self.width))
            x = jnp.concatenate([token, x], axis=1)
        table = self._position_table(position, grid)
        x = shard_batch(x + table.astype(x.dtype))
        if self.pre_norm:
            x = LayerNorm(self.norm_eps, name="ln_pre", **dtypes)(x)
        x = Transformer(
            self.depth, self.num_heads, self.mlp_ratio, self.activation, False,
            self.norm_eps, matrices, self.scan_layers, self.remat, **dtypes,
            name="transformer",
        )(x)  # fmt: skip
        return self._read(x, dtypes)

    @property
    def class_token(self) -> bool:
        """Whether a learned token stands before the patches."""
        return self.pool == "cls"

    @property
    def poolers(self) -> tuple[str, ...]:
        """The layers through which `pooled` reads the tokens, its own first."""
        return ("pool",) if self.pool == "map" else ()

    @property
    def summary_row(self) -> int | None:
        """Which token of a block stands for the image; None where all do together."""
        return 0 if self.pool == "cls" else None

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of patches, the last tokens of every block."""
        return patch_grid(size, self.patch_size)

    def _position_table(self, init: Any, grid: tuple[int, int]) -> Array:
        native = patch_grid(self.image_size, self.patch_size)
        extra = int(self.class_token)
        shape = (extra + native[0] * native[1], self.width)
        table = self.param("position_embedding", init, shape, self.param_dtype)
        return resize_position_embedding(table, native, grid)

    def _read(self, x: Array, dtypes: dict[str, Any]) -> dict[str, Array]:
        """What comes out of the blocks, [B, N, D], to `tokens` and `pooled`."""
        x = LayerNorm(self.norm_eps, name="ln_post", **dtypes)(x)
        if self.pool == "map":
            pooled = AttentionPool(
                self.num_heads, self.mlp_ratio, self.activation, self.norm_eps,
                **dtypes, name="pool",
            )(x)  # fmt: skip
        else:
            pooled = x.mean(axis=1) if self.pool == "mean" else x[:, 0]
        return {"tokens": x, "pooled": pooled}


def patch_grid(size: tuple[int, ...], patch: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of patches.

    Raises:
      ClipinError: the size is no multiple of the patch.
    """
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

    Source: mlfoundations/open_clip, `resize_pos_embed`; rows beyond the grid (the class
    token) are kept.

    Args:
      table: [extra + old rows * old columns, D].
      old: rows and columns of the table's grid.
      new: rows and columns wanted.

    Returns:
      [extra + new rows * new columns, D].
    """
    if old == new:
        return table
    extra = table.shape[0] - old[0] * old[1]
    grid = table[extra:].reshape(*old, -1)
    grid = jax.image.resize(grid, (*new, grid.shape[-1]), "cubic", antialias=True)
    return jnp.concatenate([table[:extra], grid.reshape(new[0] * new[1], -1)])
