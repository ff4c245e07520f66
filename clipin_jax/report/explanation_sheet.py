"""Explanations of several models as one PNG, models side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from clipin_jax import storage
from clipin_jax.errors import ClipinError
from clipin_jax.inference.explain import Explanation, explain_image
from clipin_jax.report.heatmaps import (
    LabelledImage,
    magnified,
    overlay,
    png,
    sheet,
)
from clipin_jax.report.run_history import run_labels


def write_explanations(
    workdirs: str | Path | Sequence[str | Path],
    images: str | Path | Sequence[str | Path],
    texts: str | Sequence[str],
    output: str | Path,
    **options: Any,
) -> Path:
    """Writes images with maps over them as one PNG, models side by side.

    Without maps of words, there is a row for each image and text: the image, then the
    map of each run. With them, there is a row for each run too: the image, the map of
    the text, the map of each word.

    Args:
      workdirs: run folders by path or URL, or one.
      images, texts: as in `explain_image`, and so are the options.
      output: the PNG file.

    Returns:
      The file's path.

    Raises:
      ClipinError: as in `explain_image`, or the file cannot be written.
    """
    if not str(output).lower().endswith(".png"):
        raise ClipinError(f"--output is {output}: give a file that ends with .png")
    workdirs = [workdirs] if isinstance(workdirs, str | Path) else workdirs
    names = run_labels(list(map(storage.absolute, workdirs)))
    explanations = [explain_image(w, images, texts, **options) for w in workdirs]
    if not jax.process_index():
        rows, titles = _rows(explanations, names)
        storage.write_output(output, png(sheet(rows, titles)))
    return Path(output)


def _rows(
    explanations: list[list[Explanation]], names: list[str]
) -> tuple[list[list[LabelledImage]], list[str]]:
    """Returns the rows of the sheet and their titles.

    explanations: of each run, one for each image and text.
    """
    rows, titles = [], []
    for of_runs in zip(*explanations, strict=True):
        image, text = magnified(of_runs[0].image), of_runs[0].text
        if not any(one.words for one in of_runs):
            maps = [
                (name, overlay(image, one.caption))
                for name, one in zip(names, of_runs, strict=True)
            ]
            rows.append([("", image), *maps])
            titles.append(text)
            continue
        for name, one in zip(names, of_runs, strict=True):
            maps = [(word, overlay(image, map_)) for word, map_ in one.words]
            rows.append([("", image), (text, overlay(image, one.caption)), *maps])
            titles.append(name)
    return rows, titles
