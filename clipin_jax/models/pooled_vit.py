"""Vision transformer whose tokens are pooled by learned queries: CoCa's image tower."""

from typing import ClassVar

import flax.linen as nn

from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import LayerNorm, check_option
from clipin_jax.models.pooling import QueryPool
from clipin_jax.models.vit import PatchTransformer
from clipin_jax.types import Array, TowerFeatures


class PooledViT(PatchTransformer):
    """Vision transformer: the trunk, then attention from learned queries.

    The queries attend to all tokens, the class token included. `tokens` is the output
    of the caption queries, to which a text tower attends; `pooled` is for contrast.

    Attributes:
      pool: `single` (one pooler: its first query is for contrast, the others are for
        captions, a norm follows; mlfoundations/open_clip) or `cascade` (all queries are
        for captions, a second pooler with one query attends to their output, a norm
        follows each; arXiv 2205.01917, section 3.2).
      num_queries: Q of the first pooler.
      pool_width: E of `tokens` and `pooled`.
      pool_heads: heads of every pooler.
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

    @nn.compact
    def __call__(self, image: Array, train: bool = False) -> TowerFeatures:
        """Encodes images.

        Args:
          image: [B, H, W, C] float, normalised; H and W multiples of the patch.
          train: not used.

        Returns:
          `tokens`: [B, Q or Q - 1, E]; `pooled`: [B, E]; both after a norm.

        Raises:
          ClipinError: the image is no multiple of the patch, an unknown pool or
            initialisation, or too few queries.
        """
        check_option("model.image.pool", self.pool, self.pools)
        if self.pool == "single" and self.num_queries < 2:
            raise ClipinError(
                "model.image.num_queries must be at least 2 with pool 'single': one "
                "for contrast, the others for captions"
            )
        x = self.encode_patches(image, class_token=self.class_token)
        x = self._query_pool(self.num_queries, "caption_pool")(x)
        x = LayerNorm(self.norm_eps, **self.dtypes, name="ln_post")(x)
        if self.pool == "single":
            return {"tokens": x[:, 1:], "pooled": x[:, 0]}
        contrast = self._query_pool(1, "contrast_pool")(x)
        contrast = LayerNorm(self.norm_eps, **self.dtypes, name="ln_contrast")(contrast)
        return {"tokens": x, "pooled": contrast[:, 0]}

    def _query_pool(self, num_queries: int, name: str) -> QueryPool:
        return QueryPool(
            num_queries=num_queries,
            width=self.pool_width,
            num_heads=self.pool_heads,
            norm_eps=self.norm_eps,
            **self.dtypes,
            name=name,
        )

    @property
    def poolers(self) -> tuple[str, ...]:
        """The submodules that make `pooled` from the patches, see `PatchTower`."""
        last = ("contrast_pool",) if self.pool == "cascade" else ()
        return *last, "caption_pool"

    @property
    def summary_row(self) -> int | None:
        """The token of the whole image in a block, see `PatchTower`."""
        return None
