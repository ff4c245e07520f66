"""Saves features of timm's and open_clip's models, for `tests/interop/test_peers.py`.

    pip install --no-deps timm==1.0.31 open_clip_torch==3.3.0   # torch is there
    python bench/foreign_numbers.py tests/parity/golden/foreign_tiny.json

The models are tiny. Their weights are drawn from a seed, so the file has no weights but
their names and shapes, and the features of three images and texts, computed in float64.
Both libraries import torchvision for transforms of images, which no model needs: where
it is missing, empty classes stand in for it.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import torch

IMAGE, PATCH, WIDTH, HEADS, DEPTH, LENGTH, WORDS = 16, 4, 24, 2, 2, 6, 20
WEIGHT_SEED, IMAGE_SEED, STD = 1, 2, 0.2


class EmptyModule(types.ModuleType):
    """A module that has a class of any name; the class does nothing."""

    __path__: list[str] = []
    __version__ = "0"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        modes = {mode: mode for mode in ("NEAREST", "BILINEAR", "BICUBIC", "LANCZOS")}
        modes |= {mode: mode for mode in ("BOX", "HAMMING")}
        setattr(self, name, type(name, (), modes))
        return self.__dict__[name]


class EmptyTorchvision(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds an empty module for each one of torchvision."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec):
        return EmptyModule(spec.name)

    def exec_module(self, module):
        pass


def draw_weights(model: torch.nn.Module) -> list[tuple[str, list[int]]]:
    """Gives a model weights from the seed; returns their names and shapes in order.

    They are parts of one row of normal numbers times `STD`. Gains of norms, which have
    one axis, are 1 more.
    """
    parameters = dict(model.named_parameters())
    total = sum(value.numel() for value in parameters.values())
    generator = torch.Generator().manual_seed(WEIGHT_SEED)
    row = STD * torch.randn(total, generator=generator, dtype=torch.float64)
    parts = row.float().split([value.numel() for value in parameters.values()])
    for (name, value), part in zip(parameters.items(), parts, strict=True):
        is_gain = value.ndim == 1 and name.endswith("weight")
        value.data = part.reshape(value.shape) + float(is_gain)
    model.double().eval()
    return [(name, list(value.shape)) for name, value in parameters.items()]


def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(IMAGE_SEED)
    shape = 3, 3, IMAGE, IMAGE
    return torch.randn(shape, generator=generator, dtype=torch.float64).float().double()


def texts() -> list[list[int]]:
    """Three texts: start, words, end (the largest id), padding."""
    words = [[3, 4, 5, 6], [7], [8, 3]]
    rows = [[WORDS - 2, *row, WORDS - 1] for row in words]
    return [row + [0] * (LENGTH - len(row)) for row in rows]


def timm_numbers(pool: str) -> dict[str, Any]:
    """Returns the pooled features of timm's ViT."""
    from timm.models.vision_transformer import VisionTransformer  # pyright: ignore

    model = VisionTransformer(
        img_size=IMAGE, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH,
        num_heads=HEADS, num_classes=0, global_pool=pool,
        class_token=pool == "token",
    )  # fmt: skip
    arrays = draw_weights(model)
    return {"arrays": arrays, "image": model(images()).tolist()}


def open_clip_numbers(quick_gelu: bool) -> dict[str, Any]:
    """Returns the features of CLIP, of unit norm."""
    from open_clip.model import CLIP  # pyright: ignore

    vision = dict(
        layers=DEPTH, width=WIDTH, head_width=WIDTH // HEADS, patch_size=PATCH,
        image_size=IMAGE,
    )  # fmt: skip
    text = dict(
        layers=DEPTH, width=WIDTH, heads=HEADS, context_length=LENGTH, vocab_size=WORDS
    )
    model: Any = CLIP(16, vision, text, quick_gelu=quick_gelu)
    arrays = draw_weights(model)
    return {
        "arrays": arrays,
        "image": model.encode_image(images(), normalize=True).tolist(),
        "text": model.encode_text(torch.tensor(texts()), normalize=True).tolist(),
    }


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {key: rounded(inside) for key, inside in value.items()}
    return [rounded(inside) for inside in value] if isinstance(value, list) else value


def main() -> None:
    if importlib.util.find_spec("torchvision") is None:
        sys.meta_path.insert(0, EmptyTorchvision())
    import open_clip  # pyright: ignore
    import timm  # pyright: ignore

    with torch.no_grad():
        numbers = {
            "timm token": timm_numbers("token"),
            "timm map": timm_numbers("map"),
            "open_clip gelu": open_clip_numbers(quick_gelu=False),
            "open_clip quick_gelu": open_clip_numbers(quick_gelu=True),
        }
    versions = {"timm": timm.__version__, "open_clip": open_clip.__version__}
    sizes = {"image": IMAGE, "std": STD, "num_heads": HEADS}
    seeds = {"weight_seed": WEIGHT_SEED, "image_seed": IMAGE_SEED}
    content = {"versions": versions, **sizes, **seeds, "text": texts(), **numbers}
    line = json.dumps(rounded(content), separators=(",", ":"))
    Path(sys.argv[1]).write_text(line + "\n")


if __name__ == "__main__":
    main()
