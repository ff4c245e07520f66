"""Checks a built site: nothing comes from a network, and its search finds pages.

    python docs/check_site.py docs/_build/html
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sphinx.search.en import SearchEnglish

# What people type -> the page that must be among the first results.
SEARCHES = {
    "resume": "guides/running",
    "OOM": "guides/troubleshooting",
    "out of memory": "guides/troubleshooting",
    "NaN": "guides/troubleshooting",
    "collapse": "guides/troubleshooting",
    "my own data": "start/own_data",
    "learning rate": "guides/configure",
    "optim.learning_rate": "reference/config",
    "install": "start/install",
    "exit codes": "guides/running",
    "fine-tune": "guides/fine_tuning",
    "onnx": "guides/export",
    "webdataset": "guides/data",
    "slurm": "guides/launch",
    "wandb": "guides/loggers",
    "make_train_step": "reference/python",
}
FIRST = 4  # results in which the page must be
_LOADED = re.compile(
    r"<(?:script|img|iframe|source|video|audio)[^>]+src=[\"'](?:https?:)?//[^\"']+"
    r"|<link[^>]+rel=[\"'](?:stylesheet|preload|preconnect|icon)[\"'][^>]+//[^\"']+"
    r"|@import[^;]+//[^;]+"
)
# Points of Sphinx's own search (searchtools.js).
_TITLE, _TERM, _OBJECT = 15, 5, 11


def loaded_from_elsewhere(site: Path) -> Iterator[str]:
    """Yields page and tag of what a browser would fetch from a network."""
    for path in sorted([*site.rglob("*.html"), *site.rglob("*.css")]):
        for tag in _LOADED.findall(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(site)}: {tag}"


def read_index(site: Path) -> dict[str, Any]:
    """Returns the index that the site's search loads."""
    text = (site / "searchindex.js").read_text(encoding="utf-8")
    return json.loads(text[text.index("(") + 1 : text.rindex(")")])


def search(index: dict[str, Any], query: str) -> list[str]:
    """Returns pages with every word of a query, as Sphinx's search ranks them."""
    scores: dict[int, float] = {}

    def add(page: int, points: float) -> None:
        scores[page] = scores.get(page, 0.0) + points

    for title, places in index["alltitles"].items():
        if query.lower() in title.lower() and 2 * len(query) >= len(title):
            for page, _ in places:
                add(page, _TITLE * len(query) / len(title))
    for page in _pages_of_object(index, query.lower()):
        add(page, _OBJECT)
    for page, points in _pages_of_words(index, query).items():
        add(page, points)
    ranked = sorted(scores, key=lambda page: (-scores[page], index["titles"][page]))
    return [index["docnames"][page] for page in ranked]


def _pages_of_object(index: dict[str, Any], query: str) -> Iterator[int]:
    """Yields the pages of documented names that hold the query."""
    for prefix, entries in index["objects"].items():
        for page, _, _, _, name in entries:
            full = f"{prefix}.{name}" if prefix else name
            if query in full.lower():
                yield page


def _pages_of_words(index: dict[str, Any], query: str) -> dict[int, float]:
    """Returns page -> points of the pages in which all words of a query occur."""
    language = SearchEnglish({})
    found: dict[int, float] = {}
    words = [w for w in language.split(query.lower()) if language.word_filter(w)]
    for number, word in enumerate(map(language.stem, words)):
        points: dict[int, float] = {}
        for table, value in (("terms", _TERM), ("titleterms", _TITLE)):
            pages = index[table].get(word, [])
            for page in [pages] if isinstance(pages, int) else pages:
                points[page] = max(points.get(page, 0.0), value)
        kept = points if not number else {p: v for p, v in points.items() if p in found}
        found = {page: found.get(page, 0.0) + value for page, value in kept.items()}
    return found


def main(site: Path) -> int:
    """Prints what is wrong; returns the exit code."""
    wrong = [f"{text} comes from a network" for text in loaded_from_elsewhere(site)]
    index = read_index(site)
    for query, page in SEARCHES.items():
        results = search(index, query)
        if page not in results[:FIRST]:
            wrong.append(f"searching {query!r} finds {results[:FIRST]}, not {page}")
    print("\n".join(wrong) or f"{len(SEARCHES)} searches find their pages")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
