"""Shows the example images of a run, as parts of its report."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clipin_jax.report.components import captioned_image, cards, note
from clipin_jax.report.images import ImageRoom
from clipin_jax.report.markup import Markup, tag
from clipin_jax.report.run_history import DAMAGE, RunHistory, read_json
from clipin_jax.report.run_report.saved_examples import FOLDER

STYLE = """
.card .query { margin: 0 0 .5rem }
.retrievals { display: grid; gap: 0 1.2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)) }
.retrievals .card { margin-bottom: .8rem }
.strip { display: grid; gap: .45rem; grid-template-columns: repeat(6, 1fr) }
.strip figure { padding: 3px; border: 2px solid transparent; border-radius: 6px }
.strip .hit { border-color: var(--good) }
.strip .missed { border: 2px dashed var(--bad) }
.strip figcaption { text-align: center }
@media (max-width: 40rem) { .strip { grid-template-columns: repeat(3, 1fr) } }
"""


def pairs_gallery(run: RunHistory, room: ImageRoom) -> Markup | None:
    """Returns the training pairs of a run; None if there are none."""
    path = run.folder / FOLDER / "pairs.json"
    return _gallery(path, functools.partial(_pair_cards, room))


def retrievals_gallery(run: RunHistory, room: ImageRoom) -> Markup | None:
    """Returns the best and worst retrievals of all evaluations; None if none."""
    parts = []
    for name in run.evals:
        columns = _gallery(
            run.folder / FOLDER / f"retrievals_{name}.json",
            functools.partial(_retrieval_columns, room, name),
        )
        if columns:
            parts += [tag("h3", name), columns]
    if not parts:
        return None
    about = note(
        "A caption and the images nearest to it, with their cosines. Its own image has"
        " a solid frame; it stands last in a dashed frame where it is not among them."
    )
    return tag("div", about, *parts)


def _gallery(path: Path, make: Callable[[Path, Any], Markup]) -> Markup | None:
    """Returns the content of a file as cards; None if there is none."""
    content = read_json(path)
    if not content:
        return None
    try:
        return make(path.parent, content)
    except DAMAGE:
        return note(f"{path.name} is damaged")


def _pair_cards(
    room: ImageRoom, folder: Path, pairs: list[list[dict[str, str]]]
) -> Markup:
    return cards(_pair_card(room, folder, pair) for pair in pairs)


def _pair_card(room: ImageRoom, folder: Path, pair: list[dict[str, str]]) -> Markup:
    images = (room.file(folder / view["file"], view["view"]) for view in pair)
    # The views often have the same caption.
    captions = dict.fromkeys(view["caption"] for view in pair)
    texts = (tag("p", caption) for caption in captions)
    return tag("div", tag("div", *images, class_="views"), *texts, class_="card")


def _retrieval_columns(
    room: ImageRoom, name: str, folder: Path, examples: Mapping[str, Any]
) -> Markup:
    columns = []
    for kind, entries in examples.items():
        shown = (_retrieval_card(room, folder, name, entry) for entry in entries)
        columns.append(tag("div", tag("h4", kind.capitalize()), *shown))
    return tag("div", *columns, class_="retrievals")


def _retrieval_card(
    room: ImageRoom, folder: Path, name: str, entry: Mapping[str, Any]
) -> Markup:
    def figure(index: int, caption: str, class_: str | None) -> Markup:
        path = folder / f"retrieval_{name}_{index}.png"
        return captioned_image(room.file(path, f"image {index}"), caption, class_)

    target, retrieved = entry["image"], entry["retrieved"]
    figures = [
        figure(index, f"{score:.2f}", "hit" if index == target else None)
        for index, score in retrieved
    ]
    if target not in [index for index, _ in retrieved]:
        figures.append(figure(target, f"target {entry['score']:.2f}", "missed"))
    return tag(
        "div",
        tag("p", entry["caption"], class_="query"),
        tag("div", *figures, class_="strip"),
        note(f"rank {entry['rank']}"),
        class_="card",
    )
