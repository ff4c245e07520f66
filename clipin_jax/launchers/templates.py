"""Fills the templates of the folder `launch`.

A placeholder is `{{name}}`. Where its value is "", its line is left out of a text, and
its key or item out of a YAML file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

PACKAGE = Path(__file__).resolve().parents[1]
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


def template_folder() -> Path:
    """Returns the folder of templates: that of the clone, else the installed one."""
    clone = PACKAGE.parent
    if (clone / "setup.py").is_file() and (clone / "launch").is_dir():
        return clone / "launch"
    return PACKAGE / "launch"


def fill_text(name: str, values: Mapping[str, Any]) -> str:
    """Returns a filled template.

    Args:
      name: of the file in the folder, such as `slurm/job.sh`.
      values: of its placeholders, quoted for the language of the text.
    """
    lines = []
    for line in (template_folder() / name).read_text().splitlines(keepends=True):
        lines.append(_fill_line(line, values))
    return "".join(lines)


def _fill_line(text: str, values: Mapping[str, Any]) -> str:
    found = {name: str(values[name]) for name in _PLACEHOLDER.findall(text)}
    if not all(found.values()):
        return ""
    return _PLACEHOLDER.sub(lambda match: found[match[1]], text)


def fill_tree(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a filled YAML template as a tree.

    A value that is not a string replaces its placeholder as it is: a number, a list, a
    tree.

    Args:
      name: of the file in the folder, such as `jobset/job.yaml`.
      values: of its placeholders.
    """
    return _fill(yaml.safe_load((template_folder() / name).read_text()), values)


def dump(tree: Mapping[str, Any]) -> str:
    """Returns a tree as YAML."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, width=100)


def _fill(node: Any, values: Mapping[str, Any]) -> Any:
    """Returns a node with its values, "" for one to leave out."""
    if isinstance(node, dict):
        filled = {key: _fill(child, values) for key, child in node.items()}
        return {k: v for k, v in filled.items() if v not in ("", {}, [])} or ""
    if isinstance(node, list):
        filled = [_fill(child, values) for child in node]
        return [child for child in filled if child != ""] or ""
    if not isinstance(node, str):
        return node
    if match := _PLACEHOLDER.fullmatch(node):
        return values[match[1]]
    return _fill_line(node, values)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
