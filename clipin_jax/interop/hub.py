"""Folders of models by name: on this machine, or on the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from clipin_jax import storage
from clipin_jax.errors import ClipinError, RetryableError, first_line, shorten

HUB = "hf-hub:"
_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")  # owner/name[@revision]
# Configurations, tokenizers, and weights that are safe to read.
_FIRST = ("*.json", "*.txt", "*.model", "*.safetensors")
_OTHER_WEIGHTS = ("*.bin", "*.npz", "*.pt", "*.pth")  # where there is no safetensors
_INNER = ("*/*",)  # folders with copies for other programs


def local_folder(source: str) -> Path:
    """Returns the file or folder of a model on this machine.

    Args:
      source: a file or folder; else `hf-hub:owner/name[@revision]`, which is fetched
        into the cache of `huggingface_hub` unless it is there. Of weights, safetensors
        are fetched; other files only where there are none. `HF_HUB_OFFLINE=1` allows
        the cache alone.

    Raises:
      ClipinError: there is no such file, folder or model, it cannot be fetched, or
        `huggingface_hub` is not installed.
    """
    if not source.startswith(HUB) or Path(source).exists():
        path = storage.local_path(source)
        if not path.exists():
            raise ClipinError(
                f"no file or folder {shorten(source)}; write {HUB}owner/name for a "
                "model of the Hugging Face hub"
            )
        return path
    if not (match := _NAME.fullmatch(source.removeprefix(HUB))):
        raise ClipinError(
            f"{shorten(source)} is no name of the hub: write {HUB}owner/name or "
            f"{HUB}owner/name@revision"
        )
    return _download(source, match[1], match[2])


def _download(source: str, name: str, revision: str | None) -> Path:
    """Fetches a model of the hub into the cache; returns its folder there."""
    hub = _library(source)

    def fetch(patterns: tuple[str, ...]) -> Path:
        return Path(
            hub.snapshot_download(
                name,
                revision=revision,
                allow_patterns=list(patterns),
                ignore_patterns=list(_INNER),
            )
        )

    try:
        folder = fetch(_FIRST)
        return folder if any(folder.glob("*.safetensors")) else fetch(_OTHER_WEIGHTS)
    # Besides errors of its own, the library passes on those of several others.
    except Exception as error:
        raise _explain(hub, source, error) from error


def _library(source: str) -> Any:
    try:
        import huggingface_hub  # an extra
    except ImportError as error:
        raise ClipinError(
            f"{source} needs huggingface_hub: pip install 'clipin_jax[hub]'"
        ) from error
    return huggingface_hub


def _explain(hub: Any, source: str, error: Exception) -> ClipinError:
    """Returns why a model could not be fetched, and what to do, in one line."""
    errors = hub.errors
    if isinstance(error, errors.GatedRepoError):
        return ClipinError(
            f"{source} is gated: accept its terms on the hub, then `hf auth login`"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return ClipinError(
            f"{source} is not on the hub, or private: check the name or log in"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ClipinError(
            f"{source} is a model without that revision: name another after the @"
        )
    by_path = "or give the path of a copy on this machine"
    if hub.constants.HF_HUB_OFFLINE:
        return ClipinError(
            f"{source} is not all in the cache, and HF_HUB_OFFLINE is set: unset it "
            f"{by_path}"
        )
    return RetryableError(
        f"{source} cannot be fetched ({first_line(error)}): check the network {by_path}"
    )
