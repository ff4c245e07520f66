"""A self-contained HTML document: a head, a menu and sections; and its file."""

from __future__ import annotations

from collections.abc import Mapping

from clipin_jax.report.markup import Markup, tag
from clipin_jax.report.style import STYLE
from clipin_jax.report.tables import SORT_SCRIPT, SORTABLE


def document(
    title: str,
    sections: Mapping[str, Markup | None],
    lead: Markup | None = None,
    style: str = "",
    *,
    kind: str = "",
) -> str:
    """Returns a whole page.

    Args:
      title: the page's heading, and with the package's name the title of its tab.
      sections: heading -> content; None is left out.
      lead: stands before the sections.
      style: CSS rules of this page beside those of all pages.
      kind: of page, such as "Study", above the heading.
    """
    shown = {name: part for name, part in sections.items() if part is not None}
    links = (tag("a", name, href=f"#{_anchor(name)}") for name in shown)
    menu = tag("nav", *links, aria_label="Sections") if len(shown) > 1 else None
    above = tag("p", kind, class_="kind") if kind else None
    main = tag(
        "main",
        lead,
        *(
            tag("section", tag("h2", name), part, id=_anchor(name))
            for name, part in shown.items()
        ),
    )
    body = tag(
        "body",
        tag("header", above, tag("h1", title), menu),
        main,
        tag("footer", "Written by clipin_jax."),
        tag("script", SORT_SCRIPT) if SORTABLE in main else None,
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
