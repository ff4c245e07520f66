"""A loaded model as HTML."""

from __future__ import annotations

from clipin_jax.inference.model import Model
from clipin_jax.notebook.config_view import all_keys
from clipin_jax.report.components import fold
from clipin_jax.report.fragment import fragment
from clipin_jax.report.markup import tag
from clipin_jax.report.tables import table


def model_html(model: Model) -> str:
    """Returns what a model is."""
    rows = [(name, text) for name, text in model.facts.items()]
    return fragment(
        tag("p", tag("b", model.name)),
        table((), rows),
        fold("Config", all_keys(model.config)),
    )
