"""Shows captions that models wrote, beside their image and the reference captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from clipin_jax.report.components import cards, note
from clipin_jax.report.images import ImageRoom
from clipin_jax.report.markup import Markup, tag
from clipin_jax.report.run_history import DAMAGE, RunHistory, read_json
from clipin_jax.report.run_report.labels import run_names
from clipin_jax.report.run_report.saved_examples import FOLDER

STYLE = """
.written { display: grid; grid-template-columns: 8rem minmax(0, 1fr); gap: .8rem }
.written dl { margin: 0 } .written dt { font-size: .78rem; color: var(--soft) }
.written dd { margin: 0 0 .45rem; overflow-wrap: anywhere }
.written ul { margin: 0; padding-left: 1rem }
@media (max-width: 40rem) { .written { grid-template-columns: 5.5rem minmax(0, 1fr) } }
"""
_MOST_RUNS = 8
_MOST_REFERENCES = 5


class _Example(NamedTuple):
    """An image with its references, and what each run wrote: label -> caption."""

    image: Path
    references: Sequence[str]
    written: list[tuple[Markup, str]]


def captions_section(runs: Sequence[RunHistory], room: ImageRoom) -> Markup | None:
    """Returns the captions of all evaluations that write some; None if none does.

    Runs that were scored on the same images stand in the same card.
    """
    parts = []
    shown = list(zip(run_names(runs), runs, strict=True))[:_MOST_RUNS]
    for name in dict.fromkeys(name for _, run in shown for name in run.evals):
        examples: dict[Any, _Example] = {}
        decodings: dict[str, list[Markup]] = {}
        for label, run in shown:
            try:
                _read(run, label, name, examples=examples, decodings=decodings)
            except DAMAGE:
                parts.append(note(f"captions_{name}.json of {run.label} is damaged"))
        if examples:
            parts += [tag("h3", name), *_decoding_notes(decodings)]
            made = [_card(example, room) for example in examples.values()]
            parts.append(cards(made, "wide-cards"))
    if not parts:
        return None
    about = (
        "Images at equal distances in the data, not chosen by a score, with what the"
        " last evaluation wrote."
    )
    if len(runs) > _MOST_RUNS:
        about += f" The first {_MOST_RUNS} of {len(runs)} runs."
    return tag("div", note(about), *parts)


def _read(
    run: RunHistory,
    label: Markup,
    name: str,
    *,
    examples: dict[Any, _Example],
    decodings: dict[str, list[Markup]],
) -> None:
    """Adds the captions of a run to the examples, and how they were decoded."""
    folder = run.folder / FOLDER
    content = read_json(folder / f"captions_{name}.json")
    if not content:
        return
    for entry in content["captions"]:
        references = [str(text) for text in entry["references"]]
        image = folder / f"caption_{name}_{int(entry['image'])}.png"
        key = (entry["image"], *references)
        example = examples.setdefault(key, _Example(image, references, []))
        example.written.append((label, str(entry["caption"])))
    decodings.setdefault(_decoding_text(content["decoding"]), []).append(label)


def _decoding_text(decoding: Mapping[str, Any]) -> str:
    """Returns the strategy and the options of a decoding in words."""
    options = ", ".join(
        f"{name} {value}"
        for name, value in decoding.items()
        if name != "strategy" and value != ""
    )
    strategy = str(decoding["strategy"])
    return f"{strategy.capitalize()} decoding" + (f": {options}." if options else ".")


def _decoding_notes(decodings: Mapping[str, list[Markup]]) -> list[Markup]:
    if len(decodings) == 1:
        return [note(text) for text in decodings]
    return [
        tag("p", tag("span", text), " ", *labels, class_="note")
        for text, labels in decodings.items()
    ]


def _card(example: _Example, room: ImageRoom) -> Markup:
    listed = example.references[:_MOST_REFERENCES]
    more = len(example.references) - len(listed)
    written = [
        part
        for label, caption in example.written
        for part in (tag("dt", label), tag("dd", caption or "(nothing)"))
    ]
    references = tag("ul", *(tag("li", text) for text in listed))
    parts = tag(
        "dl",
        *written,
        tag("dt", "references" + (f", {more} more" if more else "")),
        tag("dd", references),
    )
    image = room.file(example.image, "the image")
    return tag("div", tag("div", image), parts, class_="card written")
