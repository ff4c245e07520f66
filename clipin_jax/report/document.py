"""An HTML document that needs nothing but itself: a head, and sections with links."""

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
    """A whole page.

    Args:
      title: its heading, and with our name the title of its tab.
      sections: heading -> content; what is None is left out.
      lead: what stands before the sections.
      style: rules that this page has beside those of all.
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
