"""The contents of an exported folder, and how it is written: whole or not at all."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clipin_jax import storage
from clipin_jax.errors import ClipinError, first_line
from clipin_jax.interop.safetensors_files import write_safetensors

WriteFile = Callable[[Path], Any]


class Contents(NamedTuple):
    """What is written for a model.

    Attributes:
      files: name -> function that writes the file to a path.
      library: that loads it, by its name on the Hugging Face hub.
      usage: code that loads it and encodes an image and a text.
      notes: sentences that say what differs from the run, for the card and the screen.
    """

    files: Mapping[str, WriteFile]
    library: str
    usage: str
    notes: Sequence[str] = ()


def json_file(content: Any) -> WriteFile:
    """Returns the writer of a JSON file."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    return text_file(text)


def text_file(text: str) -> WriteFile:
    """Returns the writer of a file of text, in UTF-8."""
    return bytes_file(text.encode())


def bytes_file(content: bytes) -> WriteFile:
    """Returns the writer of a file."""
    return lambda path: path.write_bytes(content)


def safetensors_file(
    arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> WriteFile:
    """Returns the writer of safetensors; of large ones, in shards with an index."""
    return functools.partial(write_safetensors, arrays=arrays, metadata=metadata)


def check_target(target: str | Path) -> Path:
    """Returns the folder to write on this machine.

    Raises:
      ClipinError: it is a URL, a file, or holds files.
    """
    folder = storage.local_path(target)
    if folder.is_dir() and not any(folder.iterdir()):
        return folder
    if folder.exists() or folder.is_symlink():
        raise ClipinError(f"{folder} is there already: name a new or empty folder")
    return folder


def write_folder(target: Path, files: Mapping[str, WriteFile]) -> None:
    """Writes files to a folder, which gets its name once all are complete.

    Args:
      target: new or empty.
      files: name -> writer.

    Raises:
      ClipinError: it cannot be written.
    """
    target = target.absolute()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        for name, write in files.items():
            write(temporary / name)
        mode = temporary.stat().st_mode & 0o666  # some libraries write for us alone
        for path in temporary.iterdir():
            path.chmod(mode)
        temporary.replace(target)
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise ClipinError(f"cannot write {target}: {reason}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
