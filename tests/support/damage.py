"""Hypothesis strategies of damaged files."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

# Values that a place in JSON may have instead of its own.
JUNK = st.sampled_from(
    [
        None, True, -1, 1.5, 1e308, 10**30, "x", "é\0", "\ud800", "x" * 5000,
        [], {}, [1], [None], {"a": 1}, [[1, 2], [3]],
    ]
)  # fmt: skip
_KINDS = ("flip", "insert", "remove", "repeat", "cut")
_MOST_CHANGED = 8  # bytes of one change
_EDGE = 300  # bytes at both ends, where headers and footers are


@st.composite
def damaged_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Draws a file in which up to three places are changed, most in its ends."""
    for _ in range(draw(st.integers(1, 3))):
        content = _change(draw, content)
    return content


def _change(draw: st.DrawFn, content: bytes) -> bytes:
    last = max(len(content) - 1, 0)
    at = draw(
        st.integers(0, min(_EDGE, last))
        | st.integers(max(last - _EDGE, 0), last)
        | st.integers(0, last)
    )
    kind, count = draw(st.sampled_from(_KINDS)), draw(st.integers(1, _MOST_CHANGED))
    if kind == "cut":
        return content[:at]
    if kind == "remove":
        return content[:at] + content[at + count :]
    new = content[at : at + count]
    if kind != "repeat":
        new = draw(st.binary(min_size=count, max_size=count))
    return content[:at] + new + content[at + count * (kind == "flip") :]


@st.composite
def damaged_json(draw: st.DrawFn, content: bytes) -> bytes:
    """Draws JSON, or lines of JSON, with another value in one place."""
    lines = content.split(b"\n")
    if not _is_json(lines[0]):  # it is of many lines
        lines = [content]
    number = draw(st.sampled_from([n for n, line in enumerate(lines) if line.strip()]))
    tree = [json.loads(lines[number])]
    container, key = draw(st.sampled_from(places(tree)))
    container[key] = draw(JUNK)
    lines[number] = json.dumps(tree[0]).encode()
    return b"\n".join(lines)


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Returns every container of a tree with each of its keys."""
    if not isinstance(tree, dict | list):
        return []
    keys = list(tree) if isinstance(tree, dict) else range(len(tree))
    inside = [place for key in keys for place in places(tree[key])]
    return [(tree, key) for key in keys] + inside
