"""Parses HTML pages, to check tags and to read what they show."""

from html.parser import HTMLParser

from clipin_jax.report.tables import SORT_SCRIPT

EVIL = "<script>alert('&')</script>"
VOID = ("wbr",)  # the only element that is neither closed nor self-closing


def check_self_contained(text: str) -> None:
    """Raises AssertionError for a link to outside, or a script but that of tables."""
    rest = text.replace(f"<script>{SORT_SCRIPT}</script>", "", 1)
    for word in ("http", "<script", "<link", "@import"):
        assert word not in rest, word


class ParsedPage(HTMLParser):
    """The texts, tags and tables of a page.

    `tables` has the text of each cell, `values` what it is sorted by. Raises
    AssertionError if tags are not balanced.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.bold: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.headings: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.values: list[list[list[str | None]]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
            self.values.append([])
        elif tag == "tr":
            self.tables[-1].append([])
            self.values[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.values[-1][-1].append(dict(attrs).get("data-v"))

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if self.open and self.open[-1] == "b":
            self.bold.append(data)

    def count(self, name: str, **attributes) -> int:
        items = attributes.items()
        return sum(t == name and items <= a.items() for t, a in self.tags)
