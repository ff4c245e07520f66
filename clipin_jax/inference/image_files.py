"""A source of image files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clipin_jax import storage
from clipin_jax.data.source import Annotations, Record, fingerprint
from clipin_jax.errors import ClipinError


class ImageFiles:
    """A source of image files, without captions and labels.

    Args:
      paths: files by path or URL.
    """

    classes: tuple[str, ...] = ()

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self._paths = [str(path) for path in paths]
        self.fingerprint = fingerprint("image files", self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Record:
        return {"image": storage.read(self._paths[index]), **self.annotations(index)}

    def annotations(self, index: int) -> Annotations:
        """Returns no captions."""
        return {"captions": ()}

    def describe(self, index: int) -> str:
        """Returns the path."""
        return self._paths[index]


def find_image_files(paths: str | Path | Sequence[str | Path]) -> ImageFiles:
    """Returns a source of files, or of one, all of which exist.

    Raises:
      ClipinError: one of them does not exist.
    """
    paths = [paths] if isinstance(paths, str | Path) else paths
    for path in map(str, paths):
        if not storage.exists(path):
            raise ClipinError(f"image file {path} does not exist")
    return ImageFiles(paths)
