"""Rich forms of classes that are not of this room, for IPython where it is running.

Registered by name, so that nothing is imported until such an object is shown.
"""

from __future__ import annotations

import importlib
from typing import Any

from clipin_jax.notebook.environment import shell

# Class -> the function of this room that returns its HTML.
_FORMS = {
    ("ml_collections.config_dict.config_dict", "ConfigDict"): "config_view:config_html",
    ("clipin_jax.inference.model", "Model"): "model_view:model_html",
}


def register() -> None:
    """Lets the IPython that is running show these classes."""
    formatter = shell().display_formatter.formatters["text/html"]
    for (module, name), form in _FORMS.items():
        formatter.for_type_by_name(module, name, _later(form))


def _later(form: str) -> Any:
    module, _, function = form.partition(":")

    def html(shown: Any) -> str:
        room = importlib.import_module(f"clipin_jax.notebook.{module}")
        return getattr(room, function)(shown)

    return html
