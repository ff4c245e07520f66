"""Our own names in safetensors, with the config: any model, with all its heads."""

from __future__ import annotations

import clipin_jax
from clipin_jax.config import to_json
from clipin_jax.interop.descriptions.own_format import FORMAT, WEIGHTS
from clipin_jax.interop.exports.folder import Contents, safetensors_file
from clipin_jax.interop.exports.trained_model import TrainedModel

# Groups that name places on the machine of the run.
_ELSEWHERE = ("evals", "log", "init_from")


def export_own_format(model: TrainedModel) -> Contents:
    """Returns a folder that `init_from` reads; parameters of the online branch."""
    metadata = dict(
        format=FORMAT, version=clipin_jax.__version__, config=_portable(model)
    )
    return Contents(
        files={WEIGHTS: safetensors_file(model.arrays, metadata)},
        library="clipin_jax",
        usage=_USAGE,
        notes=["Averages of the target branch and of the optimizer are left out."],
    )


def _portable(model: TrainedModel) -> str:
    """Returns the config as JSON without the data of the run."""
    config = model.config.copy_and_resolve_references().unlock()
    for key in _ELSEWHERE:
        if key in config:
            del config[key]
    config.data.source = dict(name=config.data.source.name)
    return to_json(config)


_USAGE = """\
import clipin_jax

config = clipin_jax.load_config("clip", ["init_from=FOLDER", "data=/path/to/folder"])
clipin_jax.train(config, "runs/tuned")  # the config must describe the same model
"""
