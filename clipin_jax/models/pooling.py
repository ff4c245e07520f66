"""Attention from learned queries to tokens: the pooling of SigLIP and of CoCa."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from clipin_jax.errors import ClipinError
from clipin_jax.models.attention.plain import attend
from clipin_jax.models.attention.taps import attention_tap
from clipin_jax.models.layers import LayerNorm, Linear
from clipin_jax.models.transformer import (
    ACTIVATIONS,
    PYTORCH_INIT,
    XAVIER_INIT,
    CrossAttention,
)
from clipin_jax.types import Array


class QueryPool(nn.Module):
    """Attention from learned queries to tokens; no residual, no perceptron.

    Queries and tokens are normed before. Source: CoCa, arXiv 2205.01917, section 3.2;
    mlfoundations/open_clip, `AttentionalPooler`.

    Attributes:
      num_queries: Q, the number of output vectors.
      width: E, their width, whatever that of the tokens.
    """

    num_queries: int
    width: int
    num_heads: int
    norm_eps: float = 1e-5
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Returns [B, Q, E]; x: [B, N, D].

        Raises:
          ClipinError: the heads do not divide the width, or there is no query.
        """
        if self.num_heads < 1 or self.width % self.num_heads or self.num_queries < 1:
            raise ClipinError(
                f"a pooler with {self.num_queries} queries of width {self.width} and "
                f"{self.num_heads} heads is impossible: it needs at least one query, "
                "and a number of heads that divides the width"
            )
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        shape = (self.num_queries, self.width)
        query = self.param(
            "query", nn.initializers.normal(1.0), shape, self.param_dtype
        )
        query = LayerNorm(self.norm_eps, name="ln_query", **dtypes)(query)
        x = LayerNorm(self.norm_eps, name="ln_key", **dtypes)(x)
        return CrossAttention(
            num_heads=self.num_heads,
            initializers=PYTORCH_INIT,
            **dtypes,
            name="attention",
        )(query[None], x)


class AttentionPool(nn.Module):
    """Attention from one learned query to tokens, then a residual perceptron.

    The pooling of SigLIP's towers (google-research/big_vision, `models/vit.py`,
    MAPHead).
    """

    num_heads: int
    mlp_ratio: float
    activation: str
    norm_eps: float
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Returns [B, D]; x: [B, N, D]."""
        batch, length, width = x.shape
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        xavier, zeros = nn.initializers.xavier_uniform(), nn.initializers.zeros
        attention: dict[str, Any] = dtypes | dict(kernel_init=xavier, bias_init=zeros)
        perceptron: dict[str, Any] = attention | dict(bias_init=XAVIER_INIT.mlp_bias)
        query = self.param("query", xavier, (1, width), self.param_dtype)
        query = jnp.broadcast_to(query.astype(self.dtype), (batch, 1, width))

        def split_heads(name: str, y: Array) -> Array:
            y = Linear(width, **attention, name=name)(y)
            return y.reshape(batch, -1, self.num_heads, width // self.num_heads)

        pooled = attend(
            split_heads("query_in", query),
            split_heads("key_in", x),
            split_heads("value_in", x),
            tap=attention_tap(self, "cross", (batch, self.num_heads, 1, length)),
        )
        pooled = Linear(width, **attention, name="out")(pooled.reshape(batch, width))
        y = LayerNorm(self.norm_eps, name="ln", **dtypes)(pooled)
        y = Linear(int(self.mlp_ratio * width), **perceptron, name="mlp_in")(y)
        y = ACTIVATIONS[self.activation](y)
        return pooled + Linear(width, **perceptron, name="mlp_out")(y)
