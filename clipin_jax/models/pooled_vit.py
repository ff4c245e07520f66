"""Vision transformer whose tokens learned queries read, the image tower of CoCa."""

from typing import Any, ClassVar

from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import LayerNorm
from clipin_jax.models.pooling import QueryPool
from clipin_jax.models.vit import ViT
from clipin_jax.types import Array


class PooledViT(ViT):
    """A ViT that says what queries read from its blocks, in place of its final norm.

    The queries read all tokens, the class token included. `tokens` is what the caption
    queries found and what a text tower looks at, `pooled` is for contrast.

    Attributes:
      pool: `single` (one pooler: its first query is for contrast, the others are for
        captions, a norm follows; mlfoundations/open_clip) or `cascade` (all queries are
        for captions, a second pooler with one query reads them, a norm follows each;
        arXiv 2205.01917, section 3.2).
      num_queries: Q of the first pooler.
      pool_width: E of `tokens` and `pooled`.
      class_token: whether the trunk has one.
    """

    pools: ClassVar[tuple[str, ...]] = ("single", "cascade")
    patch_layers: ClassVar[tuple[str, ...]] = ("transformer", "caption_pool")
    token_poolers: ClassVar[tuple[str, ...]] = ("caption_pool",)
    pool: str = "single"
    num_queries: int = 256
    pool_width: int = 512
    pool_heads: int = 8
    class_token: bool = True

    @property
    def poolers(self) -> tuple[str, ...]:
        """The layers through which `pooled` reads the tokens, its own first."""
        first = ("contrast_pool",) if self.pool == "cascade" else ()
        return *first, "caption_pool"

    def _read(self, x: Array, dtypes: dict[str, Any]) -> dict[str, Array]:
        if self.pool == "single" and self.num_queries < 2:
            raise ClipinError(
                "model.image.num_queries must be at least 2 with pool 'single': one "
                "for contrast, the others for captions"
            )
        x = QueryPool(
            self.num_queries, self.pool_width, self.pool_heads, self.norm_eps,
            **dtypes, name="caption_pool",
        )(x)  # fmt: skip
        x = LayerNorm(self.norm_eps, name="ln_post", **dtypes)(x)
        if self.pool == "single":
            return {"tokens": x[:, 1:], "pooled": x[:, 0]}
        contrast = QueryPool(
            1, self.pool_width, self.pool_heads, self.norm_eps,
            **dtypes, name="contrast_pool",
        )(x)  # fmt: skip
        contrast = LayerNorm(self.norm_eps, name="ln_contrast", **dtypes)(contrast)
        return {"tokens": x, "pooled": contrast[:, 0]}
