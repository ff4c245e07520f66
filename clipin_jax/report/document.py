"""A self-contained HTML document: a head, a menu and sections; and its file."""

from __future__ import annotations

from collections.abc import Mapping

from clipin_jax.report.markup import Markup, tag
from clipin_jax.report.style import STYLE


def document(
    title: str,
    sections: Mapping[str, Markup | None],
    lead: Markup | None = None,
    style: str = "",
) -> str:
    """Returns a whole page.

    Args:
      title: the page's heading, and with the package's name the title of its tab.
      sections: heading -> content; None is left out.
      lead: stands before the sections.
      style: CSS rules of this page beside those of all pages.
    """
    shown = {name: part for name, part in sections.items() if part is not None}
    links = (tag("a", name, href=f"#{_anchor(name)}") for name in shown)
    body = tag(
        "body",
        tag("header", tag("h1", title), tag("nav", *links)),
        lead,
        *(
            tag("section", tag("h2", name), part, id=_anchor(name))
            for name, part in shown.items()
        ),
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} – clipin_jax"),
        tag("style", Markup(STYLE + style)),
    )
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")
