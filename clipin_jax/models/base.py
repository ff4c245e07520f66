"""The protocols of towers, on which objectives, inference and explanations rely.

A tower is a flax module that maps its input to `tokens` and `pooled`. Its fields are
the keys of `config.model.image` or `config.model.text`; every tower also gets
`scan_layers`, `remat`, `dtype` and `param_dtype`, and one with a field `attention` gets
that of `config.model`. A tower of another package needs no base class, only these
fields and `__call__`:

    class MeanColour(nn.Module):
        '''Embeds the mean colour of each cell of a grid.'''

        width: int = 64
        cells: int = 4
        scan_layers: bool = False  # not used: there is one layer
        remat: str = "none"
        dtype: Any = jnp.float32
        param_dtype: Any = jnp.float32

        @nn.compact
        def __call__(self, image: Array, train: bool = False) -> TowerFeatures:
            shape = (image.shape[0], self.cells, self.cells, image.shape[-1])
            x = jax.image.resize(image, shape, "linear")
            x = x.reshape(shape[0], -1, shape[-1])
            dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
            tokens = Linear(self.width, **dtypes, name="embed")(x)
            return {"tokens": tokens, "pooled": tokens.mean(axis=1)}

and `model.image.name = "their_package.towers:MeanColour"`. The other protocols are
optional: each has the methods that some objective or explanation calls.
"""

from typing import ClassVar, Protocol

from clipin_jax.models.layers import LogitFactors
from clipin_jax.types import Array, Features, TowerFeatures, View


class ImageTower(Protocol):
    """Encodes images."""

    def __call__(self, image: Array, train: bool = False) -> TowerFeatures:
        """Returns `tokens` [B, N, D] and `pooled` [B, D].

        Args:
          image: [B, H, W, C] float, normalised, in the tower's `dtype`.
          train: whether batch norms use and update batch statistics, and dropout is on.
        """
        ...


class TextTower(Protocol):
    """Encodes token ids."""

    def __call__(self, text: Array, train: bool = False) -> TowerFeatures:
        """Returns `tokens` [B, L, D] and `pooled` [B, D].

        Args:
          text: [B, L] int32.
          train: whether dropout is on.
        """
        ...


class FusingTower(TextTower, Protocol):
    """A text tower that can attend to an image, as image-text matching needs."""

    def fuse(
        self, text: Array, text_tokens: Array, image_tokens: Array, train: bool = False
    ) -> Array:
        """Returns [B, L, D]: the text after attention to the image.

        Args:
          text: [B, L] int32.
          text_tokens: [B, L, D], the `tokens` of `__call__`.
          image_tokens: [B, N, any width].
          train: whether dropout is on.
        """
        ...


class DecodingTower(TextTower, Protocol):
    """A text tower that predicts the next token, as captioning needs."""

    pad_id: int

    def decode(
        self, text: Array, text_tokens: Array, image_tokens: Array, train: bool = False
    ) -> Array:
        """Returns [B, L, V] logits; position l predicts the id at l + 1.

        Args:
          text: [B, L] int32.
          text_tokens: [B, L, D], the `tokens` of `__call__`.
          image_tokens: [B, N, any width].
          train: whether dropout is on.
        """
        ...


class MaskedWordTower(TextTower, Protocol):
    """A text tower that predicts masked tokens, as masked language modelling needs."""

    def predict_masked(
        self, text: Array, image_tokens: Array, train: bool = False
    ) -> Array:
        """Returns [B, L, V] logits of the id at every position.

        Args:
          text: [B, L] int32, some ids replaced by the mask.
          image_tokens: [B, N, any width].
          train: whether dropout is on.
        """
        ...


class FactoredDecodingTower(DecodingTower, Protocol):
    """One that can leave the product with its vocabulary to the objective.

    The logits are by far its largest array; an objective computes a few positions at a
    time. A tower that overrides `decode` overrides this method too.
    """

    def decode_factors(
        self, text: Array, text_tokens: Array, image_tokens: Array, train: bool = False
    ) -> LogitFactors:
        """Returns the factors of what `decode` returns, for the same arguments."""
        ...


class FactoredMaskedWordTower(MaskedWordTower, Protocol):
    """The same for masked tokens, see `FactoredDecodingTower`."""

    def predict_masked_factors(
        self, text: Array, image_tokens: Array, train: bool = False
    ) -> LogitFactors:
        """Returns the factors of what `predict_masked` returns."""
        ...


class PatchTower(ImageTower, Protocol):
    """An image tower whose attention over a grid of patches can be shown as a map.

    Attributes:
      patch_layers: the submodules whose attention is over patches, in order.
      token_poolers: the submodules that make `tokens` from the patches; empty where
        `tokens` are the patches themselves.
      poolers: the submodules that make `pooled` from the patches, the last one first.
      summary_row: the row of an attention matrix that belongs to the whole image; None
        where it is the mean over all rows.
    """

    patch_layers: ClassVar[tuple[str, ...]]
    token_poolers: ClassVar[tuple[str, ...]]

    @property
    def poolers(self) -> tuple[str, ...]: ...

    @property
    def summary_row(self) -> int | None: ...

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns rows and columns of patches, the last tokens of every block.

        Args:
          size: height and width of the image in pixels.
        """
        ...


class LayeredTower(Protocol):
    """A tower whose learning rate may decrease by layer (`optim.layer_decay`).

    Attributes:
      layer_order: patterns of parameter paths below the tower, from its input to its
        output; see `core.parameter_groups.layer_factors`.
    """

    layer_order: ClassVar[tuple[str, ...]]


class Towers(Protocol):
    """Both towers with their joint space, as `two_towers.TwoTowers` implements it."""

    image: ImageTower
    text: TextTower

    def encode(self, view: View, train: bool = False) -> Features:
        """Returns `tokens`, `pooled` and `shared` of every modality of the view."""
        ...

    def embed(self, features: Features) -> Features:
        """Returns the features with `embedding`: [B, E] float32 of unit norm."""
        ...
