"""Whether IPython is running, and whether what it shows may be HTML."""

from __future__ import annotations

import sys
from typing import Any


def shell() -> Any:
    """Returns the shell of IPython that runs this code; None outside of IPython."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None


def in_ipython() -> bool:
    """Whether IPython runs this code, in a terminal or a notebook."""
    return shell() is not None


def in_notebook() -> bool:
    """Whether a kernel runs this code, whose outputs may be HTML."""
    return hasattr(shell(), "kernel")


def show_output(shown: object) -> Any:
    """Shows an object as an output of the cell; returns the handle to replace it."""
    from IPython.display import display

    return display(shown, display_id=True)
