"""The towers, by the name that `config.model.image.name` and `.text.name` use."""

from clipin_jax.models.text_transformer import TextTransformer
from clipin_jax.models.vit import ViT

IMAGE_TOWERS = {"vit": ViT}
TEXT_TOWERS = {"text_transformer": TextTransformer}
