"""The residual network of CLIP with attention pooling (openai/CLIP, `clip/model.py`).

It differs from ResNet (arXiv 1512.03385) in a stem of three convolutions, in average
pooling wherever the grid shrinks, and in attention pooling (CLIP, arXiv 2103.00020).
"""

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from clipin_jax.errors import ClipinError
from clipin_jax.models.attention.plain import attend
from clipin_jax.models.layers import (
    BatchNorm,
    Initializer,
    Linear,
    fan_in_uniform,
    shard_batch,
)
from clipin_jax.models.remat import with_remat
from clipin_jax.models.vit import resize_position_embedding
from clipin_jax.types import Array, TowerFeatures

EXPANSION = 4  # output channels of a bottleneck over its inner ones
STEM_STRIDE = 4


class ResNet(nn.Module):
    """Stem, stages of bottlenecks, attention pooling.

    The output of the attention pool already has the width of CLIP's joint space: with
    `output_dim` equal to `model.embed_dim`, `model.projection.image` is `"none"`. The
    default sizes are those of RN50.

    Attributes:
      depths: bottlenecks per stage; every stage but the first halves the grid.
      width: channels after the stem; doubled by every stage, times four at its end.
      num_heads: of the attention pool; divides its width, 32 * `width` for four stages.
      output_dim: width E of `pooled`.
      image_size: height and width for which the pool's positions are learned; for
        images of another size the table is resized.
      scan_layers: not used: blocks differ in width and stride.
      remat: what the backward pass keeps of a bottleneck, a key of `remat.POLICIES`.
    """

    # Parameters from input to output, see `core.parameter_groups.layer_factors`.
    layer_order: ClassVar[tuple[str, ...]] = (r"^stem_", r"^stage_(\d+)_block_(\d+)/")
    depths: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    num_heads: int = 32
    output_dim: int = 1024
    image_size: tuple[int, int] = (224, 224)
    scan_layers: bool = False
    remat: str = "none"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Array, train: bool = False) -> TowerFeatures:
        """Encodes images.

        Args:
          image: [B, H, W, C] float, normalised; H and W multiples of 32 (four stages).
          train: whether batch norms use and update batch statistics.

        Returns:
          `tokens`: [B, N, D], the grid of the last stage, rows first; `pooled`: [B, E].

        Raises:
          ClipinError: the image does not fit the grid, or the heads do not divide the
            width.
        """
        native = self._grid(self.image_size)
        self._grid(image.shape[1:3])
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        half = self.width // 2
        x = image
        for i, (width, stride) in enumerate([(half, 2), (half, 1), (self.width, 1)]):
            layer = ConvNorm(width, 3, stride, **dtypes, name=f"stem_{i}")
            x = jax.nn.relu(layer(x, train))
        x = shard_batch(shrink(x, 2))
        # 0 is self, 2 is train.
        block = with_remat(Bottleneck, self.remat, static_argnums=(2,))
        for stage, depth in enumerate(self.depths):
            for i in range(depth):
                stride = 2 if stage and i == 0 else 1
                name = f"stage_{stage}_block_{i}"
                bottleneck = block(self.width * 2**stage, stride, **dtypes, name=name)
                x = bottleneck(x, train)
        pool = MeanQueryPool(
            num_heads=self.num_heads,
            output_dim=self.output_dim,
            grid=native,
            **dtypes,
            name="pool",
        )
        tokens = x.reshape(x.shape[0], -1, x.shape[-1])
        return {"tokens": tokens, "pooled": pool(x)}

    def _grid(self, size: tuple[int, ...]) -> tuple[int, int]:
        return resnet_grid(size, len(self.depths))


def resnet_grid(size: tuple[int, ...], stages: int) -> tuple[int, int]:
    """Returns rows and columns of the last stage.

    Args:
      size: height and width of an image in pixels.
      stages: their number.

    Raises:
      ClipinError: the image does not fit the grid.
    """
    cell = STEM_STRIDE * 2 ** (stages - 1)
    if size[0] % cell or size[1] % cell:
        raise ClipinError(
            f"an image of {size[0]}x{size[1]} pixels does not fit a grid of "
            f"{cell}x{cell} cells: choose model.image.image_size as a multiple of "
            f"{cell}"
        )
    return size[0] // cell, size[1] // cell


class ConvNorm(nn.Module):
    """Convolution without bias, padded evenly on all sides, then batch norm."""

    features: int
    kernel_size: int
    stride: int = 1
    scale_init: Initializer = nn.initializers.ones
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Returns [B, H/stride, W/stride, features]; x: [B, H, W, C]."""
        # flax's "SAME" would pad an even image on one side only
        pad = self.kernel_size // 2
        x = nn.Conv(
            self.features, (self.kernel_size,) * 2, strides=self.stride,
            padding=((pad, pad), (pad, pad)), use_bias=False,
            kernel_init=fan_in_uniform, dtype=self.dtype, param_dtype=self.param_dtype,
            name="conv",
        )(x)  # fmt: skip
        return BatchNorm(
            affine=True, scale_init=self.scale_init, param_dtype=self.param_dtype,
            name="norm",
        )(x, train=train)  # fmt: skip


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution around a shortcut; shrinks by average pooling."""

    features: int
    stride: int
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Returns [B, H/stride, W/stride, 4 * features]; x: [B, H, W, C]."""
        layer = functools.partial(
            ConvNorm, dtype=self.dtype, param_dtype=self.param_dtype
        )
        wide = EXPANSION * self.features
        y = jax.nn.relu(layer(self.features, 1, name="reduce")(x, train))
        y = jax.nn.relu(layer(self.features, 3, name="spatial")(y, train))
        # At first a block is its shortcut: it adds zero.
        zeros = nn.initializers.zeros
        expand = layer(wide, 1, scale_init=zeros, name="expand")
        y = expand(shrink(y, self.stride), train)
        if self.stride > 1 or x.shape[-1] != wide:
            x = layer(wide, 1, name="shortcut")(shrink(x, self.stride), train)
        return shard_batch(jax.nn.relu(x + y))


class MeanQueryPool(nn.Module):
    """Attention pooling whose query is the mean of the tokens.

    The mean is token 0, and all tokens get learned positions. Unlike in
    `pooling.AttentionPool`, no residual perceptron follows.

    Attributes:
      grid: rows and columns for which positions are learned.
    """

    num_heads: int
    output_dim: int
    grid: tuple[int, int]
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Returns [B, output_dim]; x: [B, H, W, D].

        Raises:
          ClipinError: the heads do not divide D.
        """
        batch, rows, columns, width = x.shape
        if self.num_heads < 1 or width % self.num_heads:
            raise ClipinError(
                f"model.image.num_heads = {self.num_heads} does not divide the width "
                f"{width} of the last stage"
            )
        normal = nn.initializers.normal(width**-0.5)
        shape = (1 + self.grid[0] * self.grid[1], width)
        table = self.param("position_embedding", normal, shape, self.param_dtype)
        table = resize_position_embedding(table, self.grid, (rows, columns))
        x = x.reshape(batch, rows * columns, width)
        x = jnp.concatenate([x.mean(axis=1, keepdims=True), x], axis=1)
        x = x + table.astype(x.dtype)
        linear = functools.partial(
            Linear, kernel_init=normal, dtype=self.dtype, param_dtype=self.param_dtype
        )

        def split_heads(name: str, y: Array) -> Array:
            y = linear(width, name=name)(y)
            return y.reshape(batch, -1, self.num_heads, width // self.num_heads)

        pooled = attend(
            split_heads("query_in", x[:, :1]),
            split_heads("key_in", x),
            split_heads("value_in", x),
        )
        return linear(self.output_dim, name="out")(pooled.reshape(batch, width))


def shrink(x: Array, stride: int) -> Array:
    """Returns the average of [B, H, W, C] over windows of `stride` x `stride`."""
    window = (stride, stride)
    # By keyword: the converter to ONNX takes no other form.
    return x if stride == 1 else nn.avg_pool(x, window_shape=window, strides=window)
