"""A model by the name of what holds it: the one place that knows every kind."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple, Protocol

import jax
import numpy as np
from ml_collections import ConfigDict

from clipin_jax import storage
from clipin_jax.config import to_json
from clipin_jax.core.parameter_paths import path_name
from clipin_jax.errors import ClipinError
from clipin_jax.inference.build import open_run
from clipin_jax.inference.encode_fns import ModelState
from clipin_jax.inference.encoder import Encoder
from clipin_jax.inference.feature_cache import FeatureCache
from clipin_jax.inference.foreign import is_foreign, open_foreign
from clipin_jax.interop.hub import HUB
from clipin_jax.interop.open_model import ECOSYSTEMS
from clipin_jax.runs.checkpoint_tools.saved_checkpoint import split_name

# What decides, beside the variables, how an image or a text is encoded.
_CONFIG_KEYS = ("image_size", "context_length", "tokenizer", "caption_cleaning")


class Opened(Protocol):
    """A run, or a model of another library, whose weights are not read yet."""

    @property
    def name(self) -> str:
        """A path, URL or name on the hub."""
        ...

    @property
    def config(self) -> ConfigDict:
        """Towers, objectives, preprocessing, tokenizer."""
        ...

    @property
    def encoder(self) -> Encoder:
        """Encodes images and texts."""
        ...

    def restore(self, step: int | None = None) -> tuple[ModelState, int]:
        """Returns the variables and their step; None for the newest checkpoint."""
        ...


class OpenedModel(NamedTuple):
    """A model, and what is needed to use it.

    Attributes:
      name: what holds it, for messages.
      config: towers, objectives, preprocessing, tokenizer.
      encoder: encodes images and texts, on all devices.
      state: its variables, on the devices.
    """

    name: str
    config: ConfigDict
    encoder: Encoder
    state: ModelState


def open_source(source: str | Path, cache: FeatureCache | None = None) -> Opened:
    """Opens a run or a model of another library; reads no weights.

    Args:
      source: the folder of a run, by path or URL; or a model of another library: a
        local file or folder, or `hf-hub:owner/name`.
      cache: keeps features of images, see `Encoder`.

    Raises:
      ClipinError: no model there.
    """
    if is_foreign(source):
        return open_foreign(source, cache)
    path = storage.full_path(source)
    if not storage.is_remote(path) and not (Path(path) / "config.json").is_file():
        raise ClipinError(
            f"{source} is no run folder: it has no config.json; nor is it a model of "
            f"{', '.join(e.name for e in ECOSYSTEMS)}; write {HUB}owner/name for a "
            "model of the Hugging Face hub"
        )
    return open_run(source, cache)


def open_model(source: str | Path, step: int | None = None) -> OpenedModel:
    """Opens a model to use it.

    Args:
      source: the folder of a run, by path or URL; or FOLDER@STEP for one of its
        checkpoints. Or a model of another library: a local file or folder, or
        `hf-hub:owner/name`.
      step: the checkpoint's step; None for the newest undamaged one.

    Raises:
      ClipinError: no model there, no such checkpoint, or a step that is given twice.
    """
    folder, named_step = str(source), None
    if not is_foreign(source):
        folder, named_step = split_name(folder)
    if named_step is not None and step not in (None, named_step):
        raise ClipinError(f"{source} names step {named_step}, but step is {step}")
    opened = open_source(folder)
    state, step = opened.restore(named_step if step is None else step)
    name = f"{opened.name}@{step}" if step else opened.name
    return OpenedModel(name, opened.config, opened.encoder, state)


def model_fingerprint(opened: OpenedModel) -> str:
    """Returns a hash of what decides how a model encodes images and texts.

    It is that of the variables of the online branch, of `config.model`, and of the
    preprocessing; the same on any machine.
    """
    digest = hashlib.sha256()
    leaves = jax.tree_util.tree_leaves_with_path(opened.state.variables)
    for path, leaf in sorted(leaves, key=lambda pair: path_name(pair[0])):
        array = np.asarray(leaf)
        digest.update(f"{path_name(path)} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(_preprocessing(opened.config).encode())
    return digest.hexdigest()[:16]


def _preprocessing(config: ConfigDict) -> str:
    data = {key: config.data[key] for key in _CONFIG_KEYS if key in config.data}
    data["interpolation"] = config.data.augment.interpolation
    if (resize := config.data.get("resize", "shortest")) != "shortest":
        data["resize"] = resize  # a run from before has no such key
    return to_json(ConfigDict({"model": config.model.to_dict(), "data": data}))
