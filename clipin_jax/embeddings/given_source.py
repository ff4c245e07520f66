"""The data source that a user names on the command line."""

from __future__ import annotations

import ast
import os
from typing import Any

from clipin_jax import storage
from clipin_jax.config import pair_source
from clipin_jax.errors import ClipinError, shorten


def source_arguments(text: str, split: str = "") -> dict[str, Any]:
    """Returns the arguments of a source, for `make_source`.

    Args:
      text: a folder or file, as the option `data` of configs takes it; or the dict that
        `data.source` takes, as text.
      split: of a folder that has several; "" for all records, or, in the layouts that
        always have splits, for "train".

    Raises:
      ClipinError: the text begins as a dict but is none.
    """
    if not text.lstrip().startswith("{"):
        path = storage.full_path(text)
        path = path if storage.is_remote(path) else os.path.abspath(path)
        arguments = dict(pair_source(path, runlocal=False)(split))
        # Only the layouts with fixed names of files need a split.
        return arguments if "path" in arguments or split else {**arguments, **_TRAIN}
    try:
        arguments = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError) as error:
        raise ClipinError(
            f"the source {shorten(text)} is no dict: write it as "
            "{'name': 'table', 'files': 'pairs.csv'}"
        ) from error
    if not isinstance(arguments, dict) or not all(map(_is_name, arguments)):
        raise ClipinError(f"the source {shorten(text)} is no dict of named arguments")
    return arguments | ({"split": split} if split else {})


_TRAIN = {"split": "train"}


def _is_name(key: Any) -> bool:
    return isinstance(key, str)
