"""Towers and their joint space, and the tables of names in `config.model`.

Imports flax, jax, `errors` and `types`.
"""

from clipin_jax.models.bert import Bert
from clipin_jax.models.mixture_bert import MixtureBert
from clipin_jax.models.pooled_vit import PooledViT
from clipin_jax.models.resnet import ResNet
from clipin_jax.models.split_bert import SplitBert
from clipin_jax.models.split_decoder import SplitDecoder
from clipin_jax.models.text_transformer import TextTransformer
from clipin_jax.models.vit import ViT

IMAGE_TOWERS = {"pooled_vit": PooledViT, "resnet": ResNet, "vit": ViT}
TEXT_TOWERS = {
    "bert": Bert,
    "mixture_bert": MixtureBert,
    "split_bert": SplitBert,
    "split_decoder": SplitDecoder,
    "text_transformer": TextTransformer,
}
