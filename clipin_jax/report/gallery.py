"""Shows the pictures that a run kept, as parts of a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from clipin_jax.report.markup import Markup, tag
from clipin_jax.report.run import Run, read_json

FOLDER = "examples"  # inside the run folder
SMALL = 96  # pictures below this many pixels are shown with their pixels visible


def picture_file(name: str, index: int) -> str:
    """What the file of a picture that evaluation `name` retrieved is called."""
    return f"retrieval_{name}_{index}.png"


def pairs_section(run: Run) -> Markup | None:
    """The kept training pairs of a run; None when there are none."""
    folder = run.folder / FOLDER
    pairs = read_json(folder / "pairs.json")
    cards = [_pair(folder, pair) for pair in pairs or ()]
    return tag("div", *cards, class_="pairs") if cards else None


def retrievals_section(run: Run, name: str) -> Markup | None:
    """The kept best and worst retrievals of an evaluation; None without any."""
    folder = run.folder / FOLDER
    examples = read_json(folder / f"retrievals_{name}.json")
    if not examples:
        return None
    columns = []
    for kind, entries in examples.items():
        rows = (_retrieval(folder, name, entry) for entry in entries)
        columns.append(tag("div", tag("h4", kind.capitalize()), *rows))
    return tag("div", *columns, class_="retrievals")


def _pair(folder: Path, pair: list[dict[str, str]]) -> Markup:
    pictures = (_picture(folder / view["file"], view["view"]) for view in pair)
    # The views' captions are one text more often than not.
    captions = dict.fromkeys(view["caption"] for view in pair)
    texts = (tag("p", caption) for caption in captions)
    return tag("div", tag("div", *pictures, class_="views"), *texts, class_="card")


def _retrieval(folder: Path, name: str, entry: Mapping[str, Any]) -> Markup:
    own = entry["image"]
    found = tag("p", f"found at place {entry['rank']}", class_="note")
    shown = entry["retrieved"]  # (index, score), best first
    pictures = [
        tag(
            "figure",
            _picture(folder / picture_file(name, index), f"image {index}"),
            tag("figcaption", f"{score:.2f}"),
            class_="hit" if index == own else None,
        )
        for index, score in shown
    ]
    if own not in [index for index, _ in shown]:
        missed = tag(
            "figure",
            _picture(folder / picture_file(name, own), f"image {own}"),
            tag("figcaption", f"own {entry['score']:.2f}"),
            class_="missed",
        )
        pictures.append(missed)
    text = tag("p", entry["caption"], class_="query")
    return tag("div", text, tag("div", *pictures, class_="strip"), found, class_="card")


def _picture(path: Path, alt: str) -> Markup:
    """A PNG file inside the page itself; a gap where the file is missing."""
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as picture:
            small = max(picture.size) < SMALL
    except OSError:
        return tag("span", "missing", class_="gap")
    source = "data:image/png;base64," + base64.b64encode(data).decode()
    return tag("img", src=source, alt=alt, class_="pixels" if small else None)
