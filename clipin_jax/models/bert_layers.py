"""The parts of BERT: embeddings, post-norm layers with cross-attention, word head.

Source: arXiv 1810.04805; cross-attention as in ALBEF (arXiv 2107.07651, section 3.1).
"""

import functools
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from clipin_jax.errors import ClipinError
from clipin_jax.models.attention.plain import attend
from clipin_jax.models.attention.taps import attention_tap
from clipin_jax.models.layers import (
    LayerNorm,
    Linear,
    LogitFactors,
    check_length,
    check_option,
    shard_batch,
)
from clipin_jax.models.remat import with_remat
from clipin_jax.models.transformer import (
    ACTIVATIONS,
    apply_layers,
    blocks_of,
)
from clipin_jax.types import Array, TowerFeatures

NORMAL = nn.initializers.normal(0.02)


class BertOptions(NamedTuple):
    """The options that all parts of a BERT share.

    Attributes:
      width: D.
      num_heads: of attention; divides D.
      mlp_ratio: width inside the perceptron, in units of D.
      activation: a key of `transformer.ACTIVATIONS`.
      norm_eps: of layer norms.
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
        """Returns a linear layer with BERT's initialisation."""
        zeros = nn.initializers.zeros
        init = dict(kernel_init=NORMAL, bias_init=zeros)
        return Linear(features, **init, **self.dtypes, name=name)

    def norm(self, name: str | None = None) -> LayerNorm:
        """Returns a layer norm."""
        return LayerNorm(self.norm_eps, **self.dtypes, name=name)

    @property
    def dtypes(self) -> dict[str, Any]:
        """`dtype` and `param_dtype`."""
        return dict(dtype=self.dtype, param_dtype=self.param_dtype)


class BertEmbeddings(nn.Module):
    """Word plus position (plus token type 0), layer norm, dropout.

    Attributes:
      token_types: rows of the token type table, whose row 0 is added everywhere, as for
        a single sentence; 0 for no table.
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
        """Returns [B, L, D]; text: [B, L] int32.

        Raises:
          ClipinError: the text is longer than the position table.
        """
        check_length(text, self.context_length)
        positions = self.position_embedding(jnp.arange(text.shape[1]))
        x = self.word_embedding(text) + positions
        if self.token_types:
            x = x + self.token_type_embedding(jnp.zeros((), jnp.int32))
        return shard_batch(self.dropout(self.ln(x), deterministic=not train))

    @property
    def word_table(self) -> Array:
        """The embeddings of all words, [D, V]."""
        return self.word_embedding.embedding.T


class BertAttention(nn.Module):
    """Self-attention or attention to image tokens, then residual and norm."""

    options: BertOptions

    @nn.compact
    def __call__(
        self, x: Array, mask: Array | None, train: bool, context: Array | None = None
    ) -> Array:
        """Returns [B, L, D]; x: [B, L, D]; context: [B, M, any width], x if None."""
        o = self.options
        kind, context = ("self", x) if context is None else ("cross", context)
        tap = attention_tap(
            self, kind, (x.shape[0], o.num_heads, x.shape[1], context.shape[1])
        )

        def split_heads(name: str, y: Array) -> Array:
            y = o.linear(o.width, name)(y)
            return y.reshape(*y.shape[:2], o.num_heads, o.width // o.num_heads)

        drop = None
        if train and o.dropout:
            drop = nn.Dropout(o.dropout, deterministic=False, name="drop_weights")
        y = attend(
            split_heads("query", x),
            split_heads("key", context),
            split_heads("value", context),
            mask=mask,
            drop=drop,
            tap=tap,
        )
        y = y.reshape(x.shape)
        y = nn.Dropout(o.dropout)(o.linear(o.width, "out")(y), deterministic=not train)
        return o.norm("ln")(x + y)


class BertLayer(nn.Module):
    """Self-attention, cross-attention if there is an image, perceptron."""

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
        """Returns [B, L, D]; x: [B, L, D]; other arguments as in `BertStack`."""
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
    """`depth` layers.

    Attributes:
      options: of every layer.
      scan_layers: see `transformer.apply_layers`.
      remat: what the backward pass keeps of a layer, a key of `remat.POLICIES`.
    """

    depth: int
    options: BertOptions
    scan_layers: bool
    remat: str

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
          mask: bool, broadcasts to [B, heads, L, L], see `attention_mask`.
          image_tokens: [B, N, any width]; None skips the cross-attention.
          train: whether dropout is on.
          attention: name of the self-attention's parameters, for layers with two.

        Returns:
          [B, L, D].

        Raises:
          ClipinError: an unknown activation, or heads that do not divide the width.
        """
        _check_options(self.options)
        layer_class = with_remat(
            BertLayer,
            self.remat,
            prevent_cse=not self.scan_layers,
            static_argnums=(4, 5),
        )
        return apply_layers(
            lambda name: layer_class(self.options, name=name),
            # By position: `nn.remat` knows its static arguments by number.
            lambda layer, x: layer(x, mask, image_tokens, train, attention),
            x,
            depth=self.depth,
            scan_layers=self.scan_layers,
        )


class WordHead(nn.Module):
    """Predicts the id of every position: dense, activation, norm, tied word table."""

    options: BertOptions

    @nn.compact
    def __call__(self, x: Array, embeddings: BertEmbeddings) -> LogitFactors:
        """Returns the factors of logits [B, L, V]; x: [B, L, D]."""
        o = self.options
        y = ACTIVATIONS[o.activation](o.linear(o.width, "dense")(x))
        shape, zeros = (embeddings.vocab_size,), nn.initializers.zeros
        bias = self.param("bias", zeros, shape, o.param_dtype)
        return LogitFactors(o.norm("ln")(y), embeddings.word_table, bias)


class BertTower(nn.Module):
    """The base of BERT towers; the default sizes are those of BERT-base.

    Attributes:
      width: D of every token.
      num_heads: of attention; divides the width.
      context_length: rows of the position table.
      vocab_size: rows of the word table.
      mlp_ratio: width inside the perceptrons, in units of the width.
      token_types: rows of the token type table; 0 for none.
      activation: a key of `transformer.ACTIVATIONS`.
      norm_eps: added to the variance by layer norms.
      dropout: share of features and of attention weights that training drops.
      pad_id: the id of padding, to which no position attends.
      scan_layers: see `transformer.apply_layers`.
      remat: what the backward pass keeps of a layer, a key of `remat.POLICIES`.
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
    remat: str = "none"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        self.embeddings = BertEmbeddings(
            options=self.options,
            vocab_size=self.vocab_size,
            context_length=self.context_length,
            token_types=self.token_types,
        )

    @property
    def options(self) -> BertOptions:
        """The options that all parts share."""
        return BertOptions(
            **{name: getattr(self, name) for name in BertOptions._fields}
        )

    def stack(self, depth: int) -> BertStack:
        """Returns `depth` layers with this tower's options."""
        return BertStack(
            depth=depth,
            options=self.options,
            scan_layers=self.scan_layers,
            remat=self.remat,
        )

    def encode_text(self, layers: BertStack, text: Array, train: bool) -> TowerFeatures:
        """Returns `tokens` [B, L, D] and `pooled` [B, D], the first of them.

        Args:
          layers: run without an image.
          text: [B, L] int32.
          train: whether dropout is on.
        """
        mask = attention_mask(text, self.pad_id)
        tokens = layers(self.embeddings(text, train), mask, train=train)
        return {"tokens": tokens, "pooled": tokens[:, 0]}


def attention_mask(text: Array, pad_id: int, causal: bool = False) -> Array:
    """Returns which positions a position attends to: not to padding.

    Args:
      text: [B, L] int32.
      pad_id: the id of padding.
      causal: whether position l attends only to positions up to l.

    Returns:
      Bool, [B, 1, 1, L]; causal [B, 1, L, L].
    """
    not_padding = (text != pad_id)[:, None, None, :]
    if not causal:
        return not_padding
    return not_padding & jnp.tri(text.shape[1], dtype=bool)


def _check_options(options: BertOptions) -> None:
    check_option("model.text.activation", options.activation, ACTIVATIONS)
    if options.num_heads < 1 or options.width % options.num_heads:
        raise ClipinError(
            f"model.text.num_heads = {options.num_heads} does not divide "
            f"model.text.width = {options.width}"
        )
