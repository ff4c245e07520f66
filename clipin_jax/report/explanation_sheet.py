"""Explanations of several models as one PNG, models side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from clipin_jax.inference.explain import Explanation, explain_image
from clipin_jax.report import heatmaps


def write_explanations(
    workdirs: Sequence[str | Path],
    images: Sequence[str | Path],
    texts: Sequence[str],
    output: str | Path,
    **options: Any,
) -> Path:
    """Writes pictures with maps over them as one PNG, models side by side.

    Without words, a row for each picture and text: the picture, then each run. With
    words, a row for each run too: the picture, the text, each word.

    Args:
      workdirs: folders of runs.
      images, texts: see `explain_image`, and so are the options.
      output: the file.

    Returns:
      The file's path.

    Raises:
      ClipinError: as `explain_image`, or a file that cannot be written.
    """
    names = _names([Path(workdir) for workdir in workdirs])
    explained = [explain_image(w, images, texts, **options) for w in workdirs]
    if not jax.process_index():
        rows, titles = _rows(explained, names)
        heatmaps.write_picture(heatmaps.sheet(rows, titles), output)
    return Path(output)


def _names(folders: list[Path]) -> list[str]:
    """What tells runs apart: the folder's name, with the one above if need be."""
    names = [folder.absolute().name for folder in folders]
    if len(set(names)) == len(names):
        return names
    return ["/".join(folder.absolute().parts[-2:]) for folder in folders]


def _rows(
    explained: list[list[Explanation]], names: list[str]
) -> tuple[list, list[str]]:
    """Labelled pictures, row by row, and the titles of the rows."""
    rows, titles, overlay = [], [], heatmaps.overlay
    for of_pair in zip(*explained, strict=True):
        image, text = heatmaps.magnified(of_pair[0].image), of_pair[0].text
        if not any(e.words for e in of_pair):
            cells = [
                (name, overlay(image, e.caption))
                for name, e in zip(names, of_pair, strict=True)
            ]
            rows.append([("", image), *cells])
            titles.append(text)
            continue
        for name, e in zip(names, of_pair, strict=True):
            cells = [(word, overlay(image, small)) for word, small in e.words]
            rows.append([("", image), (text, overlay(image, e.caption)), *cells])
            titles.append(name)
    return rows, titles
