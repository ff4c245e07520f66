"""A model by the name of what holds it: the one place that knows every kind."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from clipin_jax.config import to_json
from clipin_jax.core.parameter_paths import path_name
from clipin_jax.errors import ClipinError
from clipin_jax.inference.build import open_run
from clipin_jax.inference.encode_fns import ModelState
from clipin_jax.inference.encoder import Encoder
from clipin_jax.inference.foreign import is_foreign, open_foreign
from clipin_jax.runs.checkpoint_tools.saved_checkpoint import split_name

# What decides, beside the variables, how an image or a text is encoded.
_CONFIG_KEYS = ("image_size", "context_length", "tokenizer", "caption_cleaning")


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
    if is_foreign(source):
        foreign = open_foreign(source)
        state, _ = foreign.restore(step)
        return OpenedModel(foreign.name, foreign.config, foreign.encoder, state)
    folder, named_step = split_name(str(source))
    if named_step is not None and step not in (None, named_step):
        raise ClipinError(f"{source} names step {named_step}, but step is {step}")
    run = open_run(folder)
    state, step = run.restore(named_step if step is None else step)
    return OpenedModel(f"{run.name}@{step}", run.config, run.encoder, state)


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
    return to_json(ConfigDict({"model": config.model.to_dict(), "data": data}))
