"""Formulas as MathML: browsers draw them without a script and without a network."""

import html
from typing import Any

from docutils import nodes
from latex2mathml import converter, exceptions
from sphinx.application import Sphinx
from sphinx.util import logging

_log = logging.getLogger(__name__)
_ERRORS = tuple(
    kind
    for kind in vars(exceptions).values()
    if isinstance(kind, type) and issubclass(kind, Exception)
)


def setup(app: Sphinx) -> dict[str, Any]:
    """Adds the renderer `mathml`."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(_mathml(node, block=False))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="math">{_mathml(node, block=True)}</div>')
    raise nodes.SkipNode


def _mathml(node: nodes.Element, *, block: bool) -> str:
    formula = node.astext()
    try:
        return converter.convert(formula, display="block" if block else "inline")
    except _ERRORS as error:
        reason = type(error).__name__
        _log.warning("not a formula (%s): %s", reason, formula, location=node)
        return f"<code>{html.escape(formula)}</code>"
