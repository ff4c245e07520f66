"""Parameters by their path: `towers/image/patch_embed/kernel`."""

from typing import Any

import jax


def path_name(path: tuple[Any, ...]) -> str:
    """A tree path as text: `towers/image/patch_embed/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")
