"""A decoder in two halves: the first encodes text, the second attends to the image too.

CoCa's text tower, arXiv 2205.01917, section 3.2; mlfoundations/open_clip,
`TextTransformer` with `embed_cls` and `MultimodalTransformer`.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from clipin_jax.models.layers import (
    LayerNorm,
    LogitFactors,
    Vocabulary,
    check_length,
    check_option,
    shard_batch,
)
from clipin_jax.models.transformer import (
    BlockInit,
    BlockOptions,
    CrossBlock,
    Transformer,
    blocks_of,
    clip_text_init,
)
from clipin_jax.types import Array, TowerFeatures

PADDING_MASKS = ("aligned", "shifted")


class SplitDecoder(nn.Module):
    """Causal blocks over text and a class token, then blocks that attend to an image.

    The default sizes are those of open_clip's CoCa ViT-B/32.

    Attributes:
      width: D of every token.
      depth: layers of the half that encodes text alone.
      decoder_depth: layers of the other half; each has a causal block over the text and
        a block of attention to the image.
      num_heads: of attention; divides the width.
      context_length: L; the position table has one more place, for the class token.
      vocab_size: rows of the token table, and columns of the logits.
      mlp_ratio: width inside the perceptrons, in units of the width.
      activation: a key of `transformer.ACTIVATIONS`.
      norm_eps: added to the variance by layer norms.
      pad_id: the id of padding.
      padding_mask: what is masked besides all later positions. `aligned`: padding.
        `shifted`: the position after each padding, so that the class token attends to
        the first padding and, after padding, not to itself; open_clip's weights are
        trained so. Captions and their logits are equal with both.
      scan_layers: see `transformer.apply_layers`.
      remat: what the backward pass keeps of a block, a key of `remat.POLICIES`.
      attention: one of `attention.choice.IMPLEMENTATIONS`.
    """

    # Parameters from input to output, see `core.parameter_groups.layer_factors`.
    layer_order: ClassVar[tuple[str, ...]] = (
        r"^\w*embed",
        blocks_of("transformer"),
        blocks_of("decoder"),
    )
    width: int = 512
    depth: int = 12
    num_heads: int = 8
    decoder_depth: int = 12
    context_length: int = 76
    vocab_size: int = 49408
    mlp_ratio: float = 4
    activation: str = "gelu"
    norm_eps: float = 1e-5
    pad_id: int = 0
    padding_mask: str = "aligned"
    scan_layers: bool = False
    remat: str = "none"
    attention: str = "auto"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        check_option("model.text.padding_mask", self.padding_mask, PADDING_MASKS)
        normal = nn.initializers.normal
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        self.token_embedding = nn.Embed(
            self.vocab_size, self.width, embedding_init=normal(0.02), **dtypes
        )
        self.class_embedding = self.param(
            "class_embedding", normal(0.01), (self.width,), self.param_dtype
        )
        shape = (self.context_length + 1, self.width)
        self.position_embedding = self.param(
            "position_embedding", normal(0.01), shape, self.param_dtype
        )
        stack: dict[str, Any] = dict(scan_layers=self.scan_layers, remat=self.remat)
        options = self._options(clip_text_init(self.width, self.depth))
        self.transformer = Transformer(depth=self.depth, options=options, **stack)
        # Two blocks a layer: twice as many add to the residual.
        options = self._options(clip_text_init(self.width, 2 * self.decoder_depth))
        self.decoder = Transformer(
            depth=self.decoder_depth, options=options, **stack, block=CrossBlock
        )
        self.ln_final = LayerNorm(self.norm_eps, **dtypes)
        self.ln_decoder = LayerNorm(self.norm_eps, **dtypes)
        self.vocabulary = Vocabulary(
            self.vocab_size, kernel_init=normal(self.width**-0.5), **dtypes
        )

    def _options(self, initializers: BlockInit) -> BlockOptions:
        return BlockOptions(
            num_heads=self.num_heads,
            mlp_ratio=self.mlp_ratio,
            activation=self.activation,
            norm_eps=self.norm_eps,
            initializers=initializers,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            causal=True,
            attention=self.attention,
        )

    def __call__(self, text: Array, train: bool = False) -> TowerFeatures:
        """Encodes token ids.

        Args:
          text: [B, L] int32, L at most `context_length`.
          train: not used.

        Returns:
          `tokens`: [B, L, D] of the ids, before any norm; `pooled`: [B, D], the class
          token after the final norm.

        Raises:
          ClipinError: the text is longer than the position table.
        """
        check_length(text, self.context_length)
        batch, length = text.shape
        token = self.class_embedding.astype(self.dtype)
        token = jnp.broadcast_to(token, (batch, 1, self.width))
        x = jnp.concatenate([self.token_embedding(text), token], axis=1)
        x = shard_batch(x + self.position_embedding[: length + 1].astype(self.dtype))
        x = self.transformer(x, self._mask(text))
        return {"tokens": x[:, :-1], "pooled": self.ln_final(x[:, -1])}

    def _mask(self, text: Array) -> Array:
        """Returns [B, 1, 1, L + 1] bool: the ids and class token to attend to."""
        not_padding = text != self.pad_id
        always = jnp.ones_like(not_padding[:, :1])
        keys = [not_padding, always]
        if self.padding_mask == "shifted":
            keys = [always, not_padding]
        return jnp.concatenate(keys, axis=1)[:, None, None, :]

    def decode(
        self, text: Array, text_tokens: Array, image_tokens: Array, train: bool = False
    ) -> Array:
        """Predicts each next id from the text so far and the image.

        Args:
          text: not used: `text_tokens` encode it.
          text_tokens: [B, L, D], the `tokens` of `__call__`.
          image_tokens: [B, N, C].
          train: not used.

        Returns:
          [B, L, V] logits; position l predicts id l + 1.
        """
        return self.decode_factors(text, text_tokens, image_tokens, train).logits()

    def decode_factors(
        self, text: Array, text_tokens: Array, image_tokens: Array, train: bool = False
    ) -> LogitFactors:
        """Returns the factors of what `decode` returns, for the same arguments."""
        x = self.decoder(text_tokens, image_tokens)
        return self.vocabulary(self.ln_decoder(x))
