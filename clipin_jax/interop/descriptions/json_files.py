"""Reads the JSON files of a model's folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipin_jax.errors import ClipinError


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object of a file.

    Raises:
      ClipinError: the file holds no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ClipinError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise ClipinError(f"{path} holds no JSON object")
    return content


def value_of(content: Mapping[str, Any], key: str, path: Path) -> Any:
    """Returns the value of a key.

    Raises:
      ClipinError: there is none.
    """
    if key not in content:
        raise ClipinError(f"{path} has no {key!r}")
    return content[key]
