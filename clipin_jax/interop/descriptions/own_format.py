"""Our own models in safetensors: our names, and the config in the metadata."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from clipin_jax.config import from_json, resolve
from clipin_jax.errors import ClipinError, first_line
from clipin_jax.interop.foreign_model import ForeignModel
from clipin_jax.interop.table import Table, same
from clipin_jax.interop.weights import Weights, open_weights

FORMAT, WEIGHTS = "clipin_jax", "model.safetensors"
# How a model is computed, and where it starts, has no share in what it computes. Heads
# show in the names of weights. Low-rank factors are merged.
_FREE = (
    "attention", "dtype", "param_dtype", "scan_layers", "remat", "initializer", "name",
    "pre_projector", "projection", "projection_init", "lora",
)  # fmt: skip
_PREPARATION = ("context_length", "caption_cleaning", "caption_words")
_FILES = ("vocabulary", "model")  # keys of tokenizers, of files that may move


def open_own_format(path: Path) -> ForeignModel | None:
    """Opens a file or folder that `clipin export --to safetensors` wrote, else None.

    Raises:
      ClipinError: damaged files.
    """
    file = next(
        (f for f in (path / WEIGHTS, path / f"{WEIGHTS}.index.json") if f.is_file()),
        path,
    )
    if not file.is_file() or WEIGHTS.partition(".")[2] not in file.name:
        return None
    weights = open_weights(file)
    if weights.metadata.get("format") != FORMAT:
        return None
    try:
        config = from_json(weights.metadata["config"])
        return own_model(f"the model of clipin_jax in {path}", weights, config)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ClipinError(
            f"{file} is damaged: its config is {first_line(error)}"
        ) from error


def own_model(label: str, weights: Weights, config: ConfigDict) -> ForeignModel:
    """Returns a model of ours.

    Args:
      label: for messages.
      weights: by our paths, layers one by one, without low-rank factors.
      config: of its run.
    """
    return ForeignModel(
        label=label,
        weights=weights,
        table=Table(same(name, name) for name in weights.names()),
        config="",
        settings=_settings(resolve(config)),
        run_config=config,
    )


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    data = config["data"]
    tokenizer = {k: v for k, v in data["tokenizer"].items() if k not in _FILES}
    return {
        **_leaves("model", config["model"]),
        **_leaves("data.tokenizer", tokenizer),
        **{f"data.{key}": data[key] for key in _PREPARATION},
        "data.augment.interpolation": data["augment"]["interpolation"],
        "data.resize": data["resize"],
    }


def _leaves(prefix: str, branch: Any) -> dict[str, Any]:
    """Returns dotted key -> value of all that has a share in what a model computes."""
    if not isinstance(branch, dict):
        return {prefix: branch}
    leaves = {}
    for key, value in branch.items():
        if key not in _FREE or prefix.count(".") and key == "name":
            leaves |= _leaves(f"{prefix}.{key}", value)
    return leaves
