"""Parts of pages and whole pages inside a notebook."""

from __future__ import annotations

from pathlib import Path

from clipin_jax.report.markup import Markup, tag
from clipin_jax.report.style import DARK_THEME, LIGHT_THEME, STYLE
from clipin_jax.storage import write_output

_CLASS = "clipin-jax"
# Three times, to win over a notebook's own rules for tables, which have two classes.
_SCOPE = f".{_CLASS}" * 3
_DARK = f"color-scheme: dark; {DARK_THEME}"
_LIGHT = f"color-scheme: light; {LIGHT_THEME}"
# A notebook's theme counts more than the browser's: JupyterLab, Colab, VS Code; so does
# that of a page made from a notebook by Sphinx.
_IS_DARK = (
    'body[data-jp-theme-light="false"], [theme="dark"], body.vscode-dark, '
    'body.vscode-high-contrast, [data-theme="dark"]'
)
_IS_LIGHT = (
    'body[data-jp-theme-light="true"], [theme="light"], body.vscode-light, '
    '[data-theme="light"]'
)
_STYLE = f"""{_SCOPE} {{ {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ {_SCOPE} {{ {_DARK} }} }}
:is({_IS_LIGHT}) {_SCOPE} {{ {_LIGHT} }}
:is({_IS_DARK}) {_SCOPE} {{ {_DARK} }}
{_SCOPE} {{ padding: .6rem .8rem; color: var(--ink); background: var(--page);
  border-radius: 8px; font: 14px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif;
  table {{ table-layout: auto; margin: 0; border: 0 }}
  tr, tr:hover {{ background: none }}
  th, td {{ font-size: inherit; max-width: none }}
  code {{ padding: 0; color: inherit; background: none }}
  iframe {{ display: block; width: 100%; border: 1px solid var(--rule);
    border-radius: 8px; resize: vertical }}
"""
_HEIGHT = 640  # pixels of a page in a notebook


def fragment(*parts: Markup | None, style: str = "") -> Markup:
    """Returns parts of a page for a notebook, which keeps its own style.

    Args:
      parts: None is left out.
      style: CSS rules of these parts beside those of all pages.
    """
    rules = tag("style", Markup(f"{_STYLE}{STYLE}{style}}}"))
    return tag("div", rules, *parts, class_=_CLASS)


class InlinePage:
    """A whole page, which a notebook shows in a frame of its own.

    Attributes:
      title: what the page is about.
      html: the page.
    """

    def __init__(self, title: str, html: str):
        """Keeps a page; html: self-contained."""
        self.title, self.html = title, html

    def save(self, path: str | Path) -> Path:
        """Writes the page, by path or URL; returns the path.

        Raises:
          ClipinError: it cannot be written.
        """
        return write_output(path, self.html)

    def frame(self) -> Markup:
        """Returns the page in a frame, for a notebook."""
        # Else the links of the page's menu would open the notebook itself.
        page = self.html.replace("<head>", '<head><base href="about:srcdoc"/>', 1)
        frame = tag("iframe", srcdoc=page, title=self.title, height=_HEIGHT)
        return fragment(frame)

    def _repr_html_(self) -> str:
        return self.frame()

    def __repr__(self) -> str:
        size = len(self.html) / 1000
        return f"<page {self.title!r}, {size:,.0f} kB: save('page.html') writes it>"
