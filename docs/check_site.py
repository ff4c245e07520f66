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
    "webdataset": "reference/sources",
    "dask": "guides/many_machines",
    "slurm": "guides/launch",
    "wandb": "guides/loggers",
    "make_train_step": "reference/python",
}
FIRST = 3  # results in which the page must be
_LOADED = re.compile(
    r"<(?:script|img|iframe|source|video|audio)[^>]+src=[\"'](?:https?:)?//[^\"']+"
    r"|<link[^>]+rel=[\"'](?:stylesheet|preload|preconnect|icon)[\"'][^>]+//[^\"']+"
    r"|@import[^;]+//[^;]+"
)
# Points of Sphinx's own search (searchtools.js).
_ENTRY, _TITLE, _TERM, _NAME, _PART_OF_NAME = 100, 15, 5, 11, 6
Scores = dict[int, float]  # of pages, by number


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
    """Returns pages in the order in which Sphinx's search lists them."""
    query, scores = query.lower(), Scores()
    finders = (_by_title, _by_entry, _by_name, _by_words)
    for page, points in (hit for find in finders for hit in find(index, query)):
        scores[page] = max(scores.get(page, 0.0), points)
    ranked = sorted(scores, key=lambda page: (-scores[page], index["titles"][page]))
    return [index["docnames"][page] for page in ranked]


def _by_title(index: dict[str, Any], query: str) -> Iterator[tuple[int, float]]:
    for title, places in index["alltitles"].items():
        if query in title.lower() and 2 * len(query) >= len(title):
            points = round(_TITLE * len(query) / len(title))
            yield from ((page, points) for page, _ in places)


def _by_entry(index: dict[str, Any], query: str) -> Iterator[tuple[int, float]]:
    for entry, places in index["indexentries"].items():
        if query in entry and 2 * len(query) >= len(entry):
            points = round(_ENTRY * len(query) / len(entry))
            yield from ((page, points) for page, _, is_main in places if is_main)


def _by_name(index: dict[str, Any], query: str) -> Iterator[tuple[int, float]]:
    """Finds documented names: classes, functions, config keys."""
    for prefix, entries in index["objects"].items():
        for page, _, _, _, name in entries:
            full = f"{prefix}.{name}".strip(".").lower()
            last = full.rpartition(".")[2]
            if query in (full, last):
                yield page, _NAME
            elif query in last:
                yield page, _PART_OF_NAME


def _by_words(index: dict[str, Any], query: str) -> Iterator[tuple[int, float]]:
    """Finds the pages in which all words occur; the best word counts."""
    language = SearchEnglish({})
    words = [w for w in language.split(query) if language.word_filter(w)]
    found: list[Scores] = []
    for word in map(language.stem, words):
        pages = Scores()
        for table, points in (("terms", _TERM), ("titleterms", _TITLE)):
            numbers = index[table].get(word, [])
            for page in [numbers] if isinstance(numbers, int) else numbers:
                pages[page] = points
        found.append(pages)
    for page in set.intersection(*map(set, found)) if found else ():
        yield page, max(pages[page] for pages in found)


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
