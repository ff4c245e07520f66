"""`clipin config`: prints each key of a config, its value and where that is from."""

import argparse
import itertools
import json
import textwrap
from collections.abc import Iterable
from typing import Any

from clipin_jax.commands.parsing import Verbs, add_config, add_verb
from clipin_jax.config import (
    UNSET,
    Entry,
    differing,
    explain_config,
    find_config,
    split_spec,
)
from clipin_jax.config.descriptions import describe_key
from clipin_jax.config.load import read_config
from clipin_jax.config.overrides import apply_overrides, drop_removed
from clipin_jax.errors import DONE

EPILOG = """
examples:
  clipin config clip                              # every key that can be set
  clipin config clip:clipin,variant=S/16 optim.weight_decay=0.1
  clipin config clip:clipin --diff clip           # what the plug-in changes
  clipin config runs/second --diff runs/first --json
  clipin config clip --describe                   # what each key means

A value is from the page (the config's file), from a recipe (a function of
clipin_jax.config that the page calls), the default of a class, an override, or a run.
"""
WIDTH = 100  # columns
LONGEST = 36, 28  # columns of keys and of the second values, at most
DESCRIBED = 34, 44  # the same for --describe


def register(verbs: Verbs) -> None:
    """Adds the verb."""
    purpose = "print every key of a config, its value and where it comes from"
    parser = add_verb(verbs, "config", purpose, call, EPILOG)
    add_config(parser)
    parser.add_argument(
        "--diff", metavar="OTHER", help="only what differs from another config or run"
    )
    parser.add_argument(
        "--describe", action="store_true", help="what each key means, not its origin"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def call(args: argparse.Namespace) -> int:
    """Prints the table, or the JSON object."""
    entries = explain_config(args.config, args.overrides)
    if args.diff is None:
        content = {key: _as_dict(entry) for key, entry in entries.items()}
        rows = [_row(entry) for entry in entries.values()]
        if args.describe:
            meanings = _meanings(args, entries)
            content = {k: v | {"meaning": meanings[k]} for k, v in content.items()}
            rows = [(_text(e), meanings[k]) for k, e in entries.items()]
        file = find_config(split_spec(args.config)[0])
        longest = DESCRIBED if args.describe else LONGEST
        text = (
            f"{args.config}, from {file}\n{_sections(entries, rows, longest=longest)}"
        )
    else:
        pairs = differing(explain_config(args.diff), entries)
        content = {key: [_plain(e) for e in pair] for key, pair in pairs.items()}
        rows = [(_text(a), _text(b)) for a, b in pairs.values()]
        text = _sections(pairs, rows, (args.diff, args.config))
        if not pairs:
            text = f"{args.config} and {args.diff} have the same values"
    print(json.dumps(content, indent=2) if args.json else text)
    return DONE


def _meanings(args: argparse.Namespace, keys: Iterable[str]) -> dict[str, str]:
    config = read_config(args.config)
    config = apply_overrides(config, args.overrides)
    drop_removed(config)
    return {key: describe_key(config, key) for key in keys}


def _as_dict(entry: Entry) -> dict[str, Any]:
    owner = {"of": entry.owner} if entry.owner else {}
    return {"value": _plain(entry), "from": entry.origin} | owner


def _plain(entry: Entry | None) -> Any:
    """The value as JSON has it; None for one that is not there or still required."""
    if entry is None or entry.value is UNSET:
        return None
    try:
        json.dumps(entry.value)
    except TypeError:  # the default of a class may be anything
        return str(entry.value)
    return entry.value


def _text(entry: Entry | None) -> str:
    if entry is None:
        return "-"
    return "(required)" if entry.value is UNSET else repr(entry.value)


def _row(entry: Entry) -> tuple[str, str]:
    return _text(entry), f"{entry.origin} {entry.owner}".strip()


def _sections(
    keys: Iterable[str],
    rows: Iterable[tuple[str, str]],
    titles: tuple[str, str] = ("", ""),
    longest: tuple[int, int] = LONGEST,
) -> str:
    """Two columns beside the keys, by group; keys without a group come first."""
    groups: dict[str, list[tuple[str, str, str]]] = {"": []}
    for key, columns in zip(keys, rows, strict=True):
        group, _, name = key.partition(".") if "." in key else ("", "", key)
        groups.setdefault(group, []).append((f"  {name}", *columns))
    members = [("", *titles), *(row for rows in groups.values() for row in rows)]
    key, last = (
        min(max(len(row[column]) for row in members) or 1, most)
        for column, most in zip((0, 2), longest, strict=True)
    )
    widths = key, WIDTH - key - last - 2, last
    lines = [*_wrapped(("", *titles), widths)] if any(titles) else []
    for group, rows_of_group in groups.items():
        lines += [group] if group else []
        for row in rows_of_group:
            lines += _wrapped(row, widths)
    return "\n".join(lines)


def _wrapped(row: tuple[str, str, str], widths: tuple[int, int, int]) -> Iterable[str]:
    """The lines of a row; what is too long goes on below."""
    key, *columns = row
    if len(key) > widths[0]:
        yield key
        key = ""
    parts = [
        textwrap.wrap(text, width) or [""]
        for text, width in zip(columns, widths[1:], strict=True)
    ]
    for number, (a, b) in enumerate(itertools.zip_longest(*parts, fillvalue="")):
        start = key if number == 0 else ""
        yield f"{start:<{widths[0]}} {a:<{widths[1]}} {b}".rstrip()
