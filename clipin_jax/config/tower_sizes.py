"""Published sizes of towers by their usual names; pages see `clipin_jax.config`."""

from typing import Any

from clipin_jax.config.key_origins import recipe
from clipin_jax.errors import ClipinError, did_you_mean

_VIT = {  # width, depth, num_heads
    "Ti": (192, 12, 3),
    "S": (384, 12, 6),
    "B": (768, 12, 12),
    "L": (1024, 24, 16),
    "H": (1280, 32, 16),
}
_RESNET = {  # depths, width, output_dim, pixels
    "RN50": ((3, 4, 6, 3), 64, 1024, 224),
    "RN101": ((3, 4, 23, 3), 64, 512, 224),
    "RN50x4": ((4, 6, 10, 6), 80, 640, 288),
    "RN50x16": ((6, 8, 18, 8), 96, 768, 384),
    "RN50x64": ((3, 15, 36, 10), 128, 1024, 448),
}
_TEXT = {  # width, depth, num_heads
    "Ti": (192, 12, 3),
    "S": (384, 12, 6),
    "B": (512, 12, 8),
    "L": (768, 12, 12),
    "H": (1024, 24, 16),
    "RN50": (512, 12, 8),
    "RN101": (512, 12, 8),
    "RN50x4": (640, 12, 10),
    "RN50x16": (768, 12, 12),
    "RN50x64": (1024, 12, 16),
}


@recipe(r"model\.image")
def vit_sizes(variant: str) -> dict[str, Any]:
    """Returns the sizes of a ViT: "B/16" is the base size with patches of 16x16.

    Raises:
      ClipinError: no such size.
    """
    size, _, patch = variant.partition("/")
    if size not in _VIT or not patch.isdecimal() or int(patch) < 1:
        raise ClipinError(
            f"unknown ViT variant {variant!r}: write SIZE/PATCH, such as B/16, "
            f"with a size out of {', '.join(_VIT)}"
        )
    width, depth, num_heads = _VIT[size]
    return dict(
        patch_size=(int(patch), int(patch)),
        width=width,
        depth=depth,
        num_heads=num_heads,
    )


@recipe(r"model\.image")
def resnet_sizes(variant: str) -> dict[str, Any]:
    """Returns the sizes of a residual network of CLIP: "RN50" to "RN50x64".

    Raises:
      ClipinError: no such network.
    """
    if variant not in _RESNET:
        raise ClipinError(
            f"unknown ResNet variant {variant!r}: {did_you_mean(variant, _RESNET)}"
        )
    depths, width, output_dim, pixels = _RESNET[variant]
    return dict(
        depths=depths,
        width=width,
        num_heads=width // 2,  # each of width 64
        output_dim=output_dim,
        image_size=(pixels, pixels),
    )


@recipe(r"model\.text")
def text_sizes(variant: str) -> dict[str, int]:
    """Returns the sizes of the text transformer beside an image tower.

    variant: "B" or a name of the image tower, as "B/16" or "RN50".

    Raises:
      ClipinError: no such size.
    """
    size = variant.partition("/")[0]
    if size not in _TEXT:
        raise ClipinError(
            f"unknown text variant {variant!r}: {did_you_mean(size, _TEXT)}"
        )
    width, depth, num_heads = _TEXT[size]
    return dict(width=width, depth=depth, num_heads=num_heads)
