"""Parts of the configs that golden files describe, in float64."""

from typing import Any

from ml_collections import ConfigDict


def model_section(image: dict, text: dict, **changes: Any) -> dict:
    """Returns the `model` section of a config; `changes` override its keys."""
    fixed = dict(
        pre_projector=0, embedding_from="", dtype="float64", param_dtype="float64",
        scan_layers=False, remat=dict(image="none", text="none"),
        image_mean=(0.5,) * 3, image_std=(0.5,) * 3,
    )  # fmt: skip
    return fixed | dict(image=image, text=text) | changes


def config_without_target(model: dict, **objectives: Any) -> ConfigDict:
    """Returns a config without a target network; `objectives` are weights by name."""
    return ConfigDict(
        dict(
            model=model,
            objectives={k: dict(weight=weight) for k, weight in objectives.items()},
            target=dict(decay=0.0, symmetric=False),
        )
    )


def vit(c: dict, **changes: Any) -> dict:
    """Returns the config of a vision transformer with the sizes of a file."""
    sizes = dict(
        name="vit", patch_size=(c["patch"],) * 2, image_size=(c["image"],) * 2,
        width=c["v_width"], depth=c["v_layers"], num_heads=c["v_heads"],
    )  # fmt: skip
    return sizes | changes


def text_transformer(c: dict, **changes: Any) -> dict:
    """Returns the config of a text transformer with the sizes of a file."""
    sizes = dict(
        name="text_transformer", width=c["t_width"], depth=c["t_layers"],
        num_heads=c["t_heads"], context_length=c["context"], vocab_size=c["vocab"],
    )  # fmt: skip
    return sizes | changes
