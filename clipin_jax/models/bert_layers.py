"""The parts of BERT: embeddings, post-norm layers that may look at an image, word head.

Source: arXiv 1810.04805; cross-attention as in ALBEF (arXiv 2107.07651, section 3.1).
"""

import functools
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import (
    SEEN,
    TAPS,
    LayerNorm,
    Linear,
    attention_tap,
    check_option,
    shard_batch,
)
from clipin_jax.models.transformer import ACTIVATIONS, attend, blocks_of
from clipin_jax.types import Array

NORMAL = nn.initializers.normal(0.02)


class BertOptions(NamedTuple):
    """What all parts of a BERT have in common.

    Attributes:
      width: D.
      mlp_ratio: width inside the perceptron, in units of D.
      dropout: share of features and of attention weights that training drops.
    """

    width: int
    num_heads: int
    mlp_ratio: float
    activation: str
    norm_eps: float
    dropout: float
    dtype: Any
    param_dtype: Any

    def linear(self, features: int, name: str) -> Linear:
        """A linear layer with BERT's initialisation."""
        zeros = nn.initializers.zeros
        init = dict(kernel_init=NORMAL, bias_init=zeros)
        return Linear(features, **init, **self.dtypes, name=name)

    def norm(self, name: str | None = None) -> LayerNorm:
        """A layer norm."""
        return LayerNorm(self.norm_eps, **self.dtypes, name=name)

    @property
    def dtypes(self) -> dict[str, Any]:
        """`dtype` and `param_dtype`."""
        return dict(dtype=self.dtype, param_dtype=self.param_dtype)


class BertEmbeddings(nn.Module):
    """Word plus position (plus token type 0), layer norm, dropout.

    `token_types` is the number of rows of the token type table; 0 for no table. Where
    there is one its row 0 is added everywhere, as for a single sentence.
    """

    options: BertOptions
    vocab_size: int
    context_length: int
    token_types: int

    def setup(self) -> None:
        table = functools.partial(
            nn.Embed,
            features=self.options.width,
            embedding_init=NORMAL,
            **self.options.dtypes,
        )
        self.word_embedding = table(self.vocab_size)
        self.position_embedding = table(self.context_length)
        if self.token_types:
            self.token_type_embedding = table(self.token_types)
        self.ln = self.options.norm()
        self.dropout = nn.Dropout(self.options.dropout)

    def __call__(self, text: Array, train: bool) -> Array:
        """text: [B, L] int32 to [B, L, D].

        Raises:
          ClipinError: the text is longer than the position table.
        """
        length = text.shape[1]
        if length > self.context_length:
            raise ClipinError(
                f"texts of {length} tokens do not fit model.text.context_length = "
                f"{self.context_length}: shorten data.context_length"
            )
        x = self.word_embedding(text) + self.position_embedding(jnp.arange(length))
        if self.token_types:
            x = x + self.token_type_embedding(jnp.zeros((), jnp.int32))
        return shard_batch(self.dropout(self.ln(x), deterministic=not train))

    def scores(self, x: Array) -> Array:
        """x: [..., D] to [..., V], the product with the word table."""
        return self.word_embedding.attend(x)


class BertAttention(nn.Module):
    """Attention to oneself or to image tokens; residual and norm after it."""

    options: BertOptions

    @nn.compact
    def __call__(
        self, x: Array, mask: Array | None, train: bool, seen: Array | None = None
    ) -> Array:
        """x: [B, L, D] looks at `seen`: [B, M, any width], or at itself."""
        o = self.options
        kind, seen = ("self", x) if seen is None else ("cross", seen)
        tap = attention_tap(
            self, kind, (x.shape[0], o.num_heads, x.shape[1], seen.shape[1])
        )

        def heads(name: str, y: Array) -> Array:
            y = o.linear(o.width, name)(y)
            return y.reshape(*y.shape[:2], o.num_heads, o.width // o.num_heads)

        drop = None
        if train and o.dropout:
            drop = nn.Dropout(o.dropout, deterministic=False, name="drop_weights")
        query, key, value = heads("query", x), heads("key", seen), heads("value", seen)
        y = attend(query, key, value, mask=mask, drop=drop, tap=tap)
        y = y.reshape(x.shape)
        y = nn.Dropout(o.dropout)(o.linear(o.width, "out")(y), deterministic=not train)
        return o.norm("ln")(x + y)


class BertLayer(nn.Module):
    """Self-attention, cross-attention where there is an image, perceptron."""

    options: BertOptions

    @nn.compact
    def __call__(
        self,
        x: Array,
        mask: Array,
        image_tokens: Array | None,
        train: bool,
        attention: str,
    ) -> Array:
        """x: [B, L, D] to [B, L, D]; see `BertStack`."""
        o = self.options
        x = BertAttention(o, name=attention)(x, mask, train)
        if image_tokens is not None:
            cross = BertAttention(o, name="cross_attention")
            x = cross(x, None, train, image_tokens)
        y = ACTIVATIONS[o.activation](o.linear(int(o.mlp_ratio * o.width), "mlp_in")(x))
        y = o.linear(o.width, "mlp_out")(y)
        y = nn.Dropout(o.dropout)(y, deterministic=not train)
        return shard_batch(o.norm("ln")(x + y))


class BertStack(nn.Module):
    """`depth` layers; `scan_layers` and `remat` as in `transformer.Transformer`."""

    depth: int
    options: BertOptions
    scan_layers: bool
    remat: bool

    @nn.compact
    def __call__(
        self,
        x: Array,
        mask: Array,
        image_tokens: Array | None = None,
        train: bool = False,
        attention: str = "self_attention",
    ) -> Array:
        """Runs all layers.

        Args:
          x: [B, L, D].
          mask: bool, broadcasts to [B, heads, L, L], see `visible`.
          image_tokens: [B, N, any width] to look at; None skips the cross-attention.
          train: whether dropout drops.
          attention: name of the self-attention's parameters, for layers that have two.

        Returns:
          [B, L, D].

        Raises:
          ClipinError: options that make no sense.
        """
        _check_options(self.options)
        layer_class = BertLayer
        if self.remat:
            layer_class = nn.remat(
                BertLayer, prevent_cse=not self.scan_layers, static_argnums=(4, 5)
            )
        if not self.scan_layers:
            for i in range(self.depth):
                layer = layer_class(self.options, name=f"blocks_{i}")
                x = layer(x, mask, image_tokens, train, attention)
            return x
        stack = nn.scan(
            lambda layer, x, _: (layer(x, mask, image_tokens, train, attention), None),
            variable_axes={"params": 0, TAPS: 0, SEEN: 0},
            split_rngs={"params": True, "dropout": True},
            length=self.depth,
        )
        return stack(layer_class(self.options, name="blocks"), x, None)[0]


class WordHead(nn.Module):
    """Says a word at every position: dense, activation, norm, the tied word table."""

    options: BertOptions

    @nn.compact
    def __call__(self, x: Array, embeddings: BertEmbeddings) -> Array:
        """x: [B, L, D] to [B, L, V]."""
        o = self.options
        y = ACTIVATIONS[o.activation](o.linear(o.width, "dense")(x))
        scores = embeddings.scores(o.norm("ln")(y))
        shape, zeros = (embeddings.vocab_size,), nn.initializers.zeros
        bias = self.param("bias", zeros, shape, o.param_dtype)
        return scores + bias.astype(scores.dtype)


class BertTower(nn.Module):
    """What the BERT towers have in common; the default sizes are those of BERT-base.

    Attributes:
      context_length: rows of the position table.
      token_types: rows of the token type table; 0 for none.
      dropout: share of features and of attention weights that training drops.
      pad_id: the id that no position ever looks at.
    """

    # Parameters from input to output, see `core.parameter_groups.layer_factors`.
    layer_order: ClassVar[tuple[str, ...]] = (r"^embeddings/", blocks_of("layers"))
    width: int = 768
    num_heads: int = 12
    context_length: int = 512
    vocab_size: int = 30522
    mlp_ratio: float = 4
    token_types: int = 0
    activation: str = "gelu"
    norm_eps: float = 1e-12
    dropout: float = 0.0
    pad_id: int = 0
    scan_layers: bool = False
    remat: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        self.embeddings = BertEmbeddings(
            self.options, self.vocab_size, self.context_length, self.token_types
        )

    @property
    def options(self) -> BertOptions:
        """What all parts have in common."""
        return BertOptions(*(getattr(self, name) for name in BertOptions._fields))

    def stack(self, depth: int) -> BertStack:
        """`depth` layers with this tower's options."""
        return BertStack(depth, self.options, self.scan_layers, self.remat)


def visible(text: Array, pad_id: int, causal: bool = False) -> Array:
    """Which positions a position looks at: none that is padding, none to come.

    Args:
      text: [B, L] int32.
      pad_id: the id of padding.
      causal: whether position l looks at positions up to l only.

    Returns:
      Bool, [B, 1, 1, L]; causal [B, 1, L, L].
    """
    kept = (text != pad_id)[:, None, None, :]
    if not causal:
        return kept
    length = text.shape[1]
    return kept & jnp.tri(length, dtype=bool)


def _check_options(options: BertOptions) -> None:
    check_option("model.text.activation", options.activation, ACTIVATIONS)
    if options.num_heads < 1 or options.width % options.num_heads:
        raise ClipinError(
            f"model.text.num_heads = {options.num_heads} does not divide "
            f"model.text.width = {options.width}"
        )
