"""Parses HTML pages, to check tags and to read what they show."""

from html.parser import HTMLParser

EVIL = "<script>alert('&')</script>"
VOID = ("wbr",)  # the only element that is neither closed nor self-closing


class ParsedPage(HTMLParser):
    """The texts and tags of a page. Raises AssertionError if tags are not balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.bold: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if self.open and self.open[-1] == "b":
            self.bold.append(data)

    def count(self, name: str, **attributes) -> int:
        items = attributes.items()
        return sum(t == name and items <= a.items() for t, a in self.tags)
