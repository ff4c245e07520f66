"""Explanations of several models as one PNG or page, models side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from clipin_jax import storage
from clipin_jax.errors import ClipinError
from clipin_jax.inference.explain import Explanation, explain_image
from clipin_jax.report.components import captioned_image, note
from clipin_jax.report.document import document
from clipin_jax.report.heatmaps import (
    CELL,
    LabelledImage,
    magnified,
    overlay,
    png,
    sheet,
)
from clipin_jax.report.images import ImageRoom, pixels
from clipin_jax.report.markup import tag
from clipin_jax.report.run_history import run_labels
from clipin_jax.report.text_format import join_words, quote_phrase

_IMAGES = 1_500_000  # bytes of all images of a page together
_STYLE = """
.maps { display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(min(44%, 10rem), 14rem)) }
"""


def write_explanations(
    workdirs: str | Path | Sequence[str | Path],
    images: str | Path | Sequence[str | Path],
    texts: str | Sequence[str],
    output: str | Path,
    **options: Any,
) -> Path:
    """Writes images with maps over them as one PNG or HTML page, models side by side.

    Without maps of words, there is a row for each image and text: the image, then the
    map of each run. With them, there is a row for each run too: the image, the map of
    the text, the map of each word.

    Args:
      workdirs: run folders by path or URL, or one.
      images, texts: as in `explain_image`, and so are the options.
      output: the file; it ends with .png or .html.

    Returns:
      The file's path.

    Raises:
      ClipinError: as in `explain_image`, or the file cannot be written.
    """
    kind = str(output).lower().rpartition(".")[2]
    if kind not in ("png", "html"):
        raise ClipinError(
            f"--output is {output}: give a file that ends with .png or .html"
        )
    workdirs = [workdirs] if isinstance(workdirs, str | Path) else workdirs
    names = run_labels(list(map(storage.absolute, workdirs)))
    explanations = [explain_image(w, images, texts, **options) for w in workdirs]
    if not jax.process_index():
        rows, titles = _rows(explanations, names)
        content = (
            _page(rows, titles, texts) if kind == "html" else png(sheet(rows, titles))
        )
        storage.write_output(output, content)
    return Path(output)


def _page(
    rows: Sequence[Sequence[LabelledImage]],
    titles: Sequence[str],
    texts: str | Sequence[str],
) -> str:
    about = note(
        "Red: where the model looks most; blue: least; no colour: not at all. Each map"
        " is scaled by itself, so colours do not compare between maps."
    )
    parts, room = [], ImageRoom(_IMAGES)
    for row, title in zip(rows, titles, strict=True):
        shown = (
            captioned_image(
                room.take(pixels(image, f"{title} {label}".strip(), CELL)),
                label or "image",
            )
            for label, image in row
        )
        parts += [tag("h3", title), tag("div", *shown, class_="maps")]
    heading = texts if isinstance(texts, str) else join_words(map(quote_phrase, texts))
    sections = {"Maps": tag("div", about, *parts)}
    return document(heading, sections, style=_STYLE, kind="Explanation")


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
