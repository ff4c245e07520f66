"""The reference of the commands: each parser with its help text."""

import argparse
import os
from collections.abc import Iterator
from unittest import mock

from clipin_jax.commands.main import make_parser

_COLUMNS = "92"  # of the help texts


def page() -> str:
    """Returns a section for each verb, in Markdown."""
    with mock.patch.dict(os.environ, COLUMNS=_COLUMNS, NO_COLOR="1"):
        return "\n".join(map(_section, parsers(make_parser())))


def parsers(top: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yields the parsers of verbs, and of verbs inside verbs."""
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for parser in action.choices.values():
                yield parser
                yield from parsers(parser)


def _section(parser: argparse.ArgumentParser) -> str:
    purpose = (parser.description or "").strip()
    purpose = f"{purpose[:1].upper()}{purpose[1:]}."
    return f"## {parser.prog}\n\n{purpose}\n\n```text\n{parser.format_help()}```\n"
