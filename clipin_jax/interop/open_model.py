"""Opens a model of another library, whichever wrote it."""

from pathlib import Path

from clipin_jax.errors import ClipinError
from clipin_jax.interop.descriptions.huggingface.folder import open_huggingface
from clipin_jax.interop.descriptions.json_files import read_json
from clipin_jax.interop.descriptions.open_clip import open_open_clip
from clipin_jax.interop.descriptions.own_format import open_own_format
from clipin_jax.interop.descriptions.single_files import open_single_file
from clipin_jax.interop.descriptions.timm import open_timm
from clipin_jax.interop.foreign_model import Ecosystem, ForeignModel
from clipin_jax.interop.hub import local_folder
from clipin_jax.interop.weights import weight_files

# The first one that knows the files opens them.
ECOSYSTEMS = (
    Ecosystem("clipin_jax", open_own_format),
    Ecosystem("open_clip", open_open_clip),
    Ecosystem("Hugging Face transformers", open_huggingface),
    Ecosystem("timm", open_timm),
    Ecosystem("weights without a description", open_single_file),
)


def holds_model(folder: Path) -> bool:
    """Whether a folder has weights, or a config.json that can be read."""
    if weight_files(folder):
        return True
    try:
        return bool(read_json(folder / "config.json"))
    except ClipinError:
        return False


def open_model(source: str) -> ForeignModel:
    """Opens a model of another library; reads its table of contents alone.

    Args:
      source: a local file or folder, or `hf-hub:owner/name`.

    Raises:
      ClipinError: there is no such file, or no library of `ECOSYSTEMS` wrote it.
    """
    path: Path = local_folder(source)
    for ecosystem in ECOSYSTEMS:
        if model := ecosystem.open(path):
            return model
    raise ClipinError(
        f"{source} is no model of {', '.join(e.name for e in ECOSYSTEMS)}"
    )
