"""A model of another library, opened as a run is."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from clipin_jax.config import load_config
from clipin_jax.core.parameter_paths import flatten, unflatten
from clipin_jax.errors import ClipinError
from clipin_jax.inference.build import make_encoder
from clipin_jax.inference.encoder import Encoder
from clipin_jax.inference.feature_cache import FeatureCache
from clipin_jax.interop.foreign_model import ForeignModel, config_changes
from clipin_jax.interop.hub import HUB
from clipin_jax.interop.initial_weights import read_weights
from clipin_jax.interop.open_model import holds_model, open_model
from clipin_jax.runs.build import Experiment, build_experiment
from clipin_jax.runs.run_copy import holds_run


@dataclasses.dataclass(frozen=True)
class Variables:
    """The variables of a model without a target; a `ModelState`."""

    variables: Mapping[str, Any]

    @property
    def target_variables(self) -> Mapping[str, Any]:
        """Those of the online branch."""
        return self.variables


@dataclasses.dataclass(frozen=True)
class OpenedForeign:
    """A model of another library.

    Attributes:
      name: its file, folder or name on the hub.
      config: of ours, that makes the model; it names no data.
      encoder: encodes images and texts with it, on all devices.
    """

    name: str
    config: ConfigDict
    encoder: Encoder
    _model: ForeignModel
    _experiment: Experiment

    def restore(self, step: int | None = None) -> tuple[Variables, int]:
        """Returns the variables, on the devices, and 0.

        Args:
          step: None or 0: there are no others.

        Raises:
          ClipinError: another step, or the weights do not fit what their files state.
        """
        if step:
            raise ClipinError(f"{self.name} is no run: it has no step {step}")
        state = self._experiment.abstract_state
        loaded = read_weights(state, self._model, self.config, report=_print)
        # A queue of negatives, which only training needs, is not read.
        collections = {
            name: unflatten({path: loaded[path] for path in flatten(tree)})
            for name, tree in {"params": state.params, **state.collections}.items()
            if loaded.keys() >= flatten(tree).keys()
        }
        return Variables(collections), 0


def is_foreign(source: str | Path) -> bool:
    """Whether a source is a name on the hub, a file, or a folder with a model's files.

    Any other is taken for a run: a folder, RUN@STEP or a URL. This is the one rule for
    what `init_from`, `load` and the commands are given.
    """
    if str(source).startswith(HUB):
        return True
    path = Path(source).expanduser()
    if path.is_dir():
        return not holds_run(path) and holds_model(path)
    return path.is_file()


def open_foreign(
    source: str | Path, cache: FeatureCache | None = None
) -> OpenedForeign:
    """Opens a model of another library to use it.

    Args:
      source: a local file or folder, or `hf-hub:owner/name`.
      cache: keeps features of images, see `Encoder`.

    Raises:
      ClipinError: no such model, or one that is a single tower.
    """
    model = open_model(str(source))
    config = _config_of(model)
    experiment = build_experiment(config)
    encoder = make_encoder(config, experiment.learner, experiment.mesh, cache)
    return OpenedForeign(str(source), config, encoder, model, experiment)


def _config_of(model: ForeignModel) -> ConfigDict:
    """Returns the config that makes a model."""
    if model.run_config is not None:
        return model.run_config.copy_and_resolve_references().lock()
    if not model.config:
        raise ClipinError(
            f"{model.label} is a single tower: start a run from it with init_from and "
            "init_parts"
        )
    changes = config_changes(model)
    return load_config(model.config, changes=changes, without_data=True)


def check_output(source: str | Path, output: str | Path | None) -> None:
    """Checks that results of a model of another library have a place of their own.

    Raises:
      ClipinError: no output is named, and the source has no run folder for it.
    """
    if output is None and is_foreign(source):
        raise ClipinError(
            f"{source} is no run, whose folder would take the scores: name a file with "
            "--output"
        )


def _print(line: str) -> None:
    if jax.process_index() == 0:
        print(f"clipin: {line}", file=sys.stderr)
