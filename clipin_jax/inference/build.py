"""The encoder that a config describes, and the model of a run folder."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from clipin_jax.core import sharding
from clipin_jax.core.state import TrainState
from clipin_jax.data.text import caption_tokenizer
from clipin_jax.errors import ClipinError
from clipin_jax.inference.encode_fns import make_encode_fns
from clipin_jax.inference.encoder import Encoder
from clipin_jax.inference.feature_cache import FeatureCache
from clipin_jax.runs.build import build_experiment
from clipin_jax.runs.checkpoint import Checkpoints
from clipin_jax.runs.folder import load_folder
from clipin_jax.runs.run_copy import CHECKPOINTS, RunCopy, open_copy


@dataclasses.dataclass(frozen=True)
class OpenedRun:
    """The model of a run folder.

    Attributes:
      copy: the run folder on this machine.
      config: the config of the run.
      encoder: encodes images and texts with its model, on all devices.
      abstract_state: shapes and shardings of its state. `opt_state` is None: the
        optimizer's arrays, often twice the parameters, are not read.
    """

    copy: RunCopy
    config: ConfigDict
    encoder: Encoder
    abstract_state: TrainState

    @property
    def name(self) -> str:
        """The path or URL of the run."""
        return self.copy.name

    def restore(self, step: int | None = None) -> tuple[TrainState, int]:
        """Returns the state of a checkpoint, and its step; see `restore_state`."""
        return restore_state(self.copy, step, self.abstract_state)


def open_run(workdir: str | Path, cache: FeatureCache | None = None) -> OpenedRun:
    """Opens a run folder to use its model; the run may still be training.

        run = open_run("runs/quickstart")
        state, step = run.restore()
        vectors = run.encoder.texts(state, ["a red star"])["embedding"]

    Args:
      workdir: the run's folder, by path or URL.
      cache: keeps features of images, see `Encoder`; None for none.

    Returns:
      The encoder, and `restore`, which reads a checkpoint.

    Raises:
      ClipinError: the folder has no run, or its config is damaged.
    """
    copy = open_copy(workdir)
    with copy.named():
        config = load_folder(copy.folder)
    experiment = build_experiment(_on_slices_here(config))
    encoder = make_encoder(config, experiment.learner, experiment.mesh, cache)
    to_use = dataclasses.replace(experiment.abstract_state, opt_state=None)
    return OpenedRun(copy, config, encoder, to_use)


def restore_state(
    copy: RunCopy, step: int | None, abstract_state: TrainState
) -> tuple[TrainState, int]:
    """Returns the state of a checkpoint of a run, and its step.

    Args:
      copy: the run's folder.
      step: the checkpoint's step; None for the newest undamaged one.
      abstract_state: shapes and shardings, see `Checkpoints.restore_latest`.

    Raises:
      ClipinError: no such checkpoint, or its arrays are others.
    """
    with copy.named():
        copy.fetch(step)
        checkpoints = Checkpoints(copy.folder / CHECKPOINTS, read_only=True)
        with contextlib.closing(checkpoints):
            if step is not None:
                return checkpoints.restore(step, abstract_state)[0], step
            restored = checkpoints.restore_latest(abstract_state)
    if restored is None:
        raise ClipinError(f"{copy.name} has no checkpoint yet")
    state, _, step = restored
    return state, step


def _on_slices_here(config: ConfigDict) -> ConfigDict:
    """Returns the config of a run with a mesh of the slices that are here."""
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.mesh.dcn = sharding.count_slices(jax.devices())
    return config.lock()


def make_encoder(
    config: ConfigDict, learner: Any, mesh: Mesh, cache: FeatureCache | None = None
) -> Encoder:
    """Returns the encoder of a learner; `config.data` sets its images and texts.

    Args:
      config: of the run.
      learner: from `core.learner.build`.
      mesh: the devices that share a batch.
      cache: keeps features of images, see `Encoder`; None for none.

    Raises:
      ClipinError: no such tokenizer, or another key of `config.data` that is wrong.
    """
    data = config.data
    return Encoder(
        make_encode_fns(learner),
        mesh=mesh,
        tokenizer=caption_tokenizer(data),
        image_size=tuple(data.image_size),
        interpolation=data.augment.interpolation,
        resize=data.get("resize", "shortest"),  # runs from before have no such key
        augment=data.augment.to_dict(),
        cache=cache,
    )
