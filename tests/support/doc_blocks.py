"""Code blocks of the pages, and how those of the shell are checked.

A comment in the page's source, on the line above a block, says what cannot be done:

    <!-- not run: WHY -->    the block needs what a test has not: a cloud, a network
    <!-- slow: WHY -->       the block runs with the tests marked slow
"""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from clipin_jax.commands.main import parse
from clipin_jax.config import (
    explain_config,
    list_configs,
    list_studies,
    load_config,
    override_key,
)
from tests.conftest import REPOSITORY

_BLOCK = re.compile(
    r"(?:^<!-- (not run|slow): (.+?) -->\n+)?^(`{3,})([^\n`]*)\n(.*?)^\3$", re.M | re.S
)
# Listings that nobody types, and directives of the site.
SHOWN = ("", "text")
# Written by hand, or by a bench or a study whose own test compares them.
_OWN = ("_build", "notebooks", "extensions", "studies")
# Programs of others; what they do is not ours to check.
_OTHERS = {
    "cd", "comet", "export", "gcloud", "git", "jupyter", "kubectl", "pytest", "trackio",
    "wandb", "xprof",
}  # fmt: skip
_EXTRA = re.compile(r"clipin_jax\[([\w,]+)\]")


class Block(NamedTuple):
    """A fenced block of a page.

    Attributes:
      page: path from the root of the repository.
      line: of its first fence, from 1.
      language: the word after the fence.
      code: what it holds.
      mark: "not run", "slow" or "".
    """

    page: str
    line: int
    language: str
    code: str
    mark: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Returns the pages in Markdown that people read."""
    docs = REPOSITORY / "docs"
    below = [
        page
        for page in sorted(docs.rglob("*.md"))
        if page.relative_to(docs).parts[0] not in _OWN
    ]
    return [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *below]


def blocks_of(page: Path) -> Iterator[Block]:
    """Yields the blocks of a page in their order."""
    text = page.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        mark, _, _, language, code = found.groups()
        line = text.count("\n", 0, found.start(3)) + 1
        name = str(page.relative_to(REPOSITORY))
        yield Block(name, line, language.strip(), code, mark or "")


def check_shell(code: str) -> None:
    """Checks the commands of a block: their programs, options, configs and keys.

    Raises:
      AssertionError, ClipinError or SystemExit: one of them is wrong.
    """
    for line in _logical_lines(code):
        for words in _commands(line):
            _check_command(*words)


def _logical_lines(code: str) -> Iterator[str]:
    """Yields lines without comments; one whose quotes are open takes the next too."""
    whole = ""
    for line in code.replace("\\\n", " ").splitlines():
        whole += f"{line}\n"
        try:
            words = shlex.split(whole, comments=True)
        except ValueError:  # no closing quotation
            continue
        if not re.match(r"[A-Z_]+=\$\(", whole):  # M=$(...)
            yield shlex.join(words) if "#" in whole else whole
        whole = ""
    assert not whole, f"no closing quotation: {whole}"


def _commands(line: str) -> Iterator[list[str]]:
    """Yields the words of each command of a line, without assignments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if not set(word) <= set("|&;"):
            words.append(word)
            continue
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if words:
            yield words
        words = []


def _check_command(program: str, *arguments: str) -> None:
    if program == "clipin":
        _check_clipin(arguments)
    elif program == "make":
        command = ["make", "--dry-run", *arguments]
        subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    elif program in ("python", "python3"):
        _check_script(arguments)
    elif program == "pip":
        setup = (REPOSITORY / "setup.py").read_text()
        for extras in _EXTRA.findall(" ".join(arguments)):
            missing = [name for name in extras.split(",") if f'"{name}"' not in setup]
            assert not missing, f"no extra {missing}"
    elif "/" in program:
        assert (REPOSITORY / program).is_file(), f"no file {program}"
    else:
        assert program in _OTHERS, f"{program!r} is not checked: mark the block"


def _check_script(arguments: tuple[str, ...]) -> None:
    """Checks that a script of ours exists and has the options."""
    script = REPOSITORY / arguments[0]
    if arguments[0].startswith("-"):  # -c, -m
        return
    assert script.is_file(), f"no file {arguments[0]}"
    options = (x.partition("=")[0] for x in arguments if x.startswith("--"))
    missing = [option for option in options if option not in script.read_text()]
    assert not missing, f"{arguments[0]} has no {missing}"


def _check_clipin(arguments: tuple[str, ...]) -> None:
    args = parse(arguments)
    spec = str(getattr(args, "config", None) or getattr(args, "study", ""))
    name, overrides = spec.partition(":")[0], getattr(args, "overrides", [])
    if args.verb == "study":
        assert name in list_studies() or "/" in name or name.endswith((".py", ".json"))
    elif name not in list_configs():
        return  # a run's folder, a file, or an action such as `launch status`
    elif args.verb == "sweep":
        known = explain_config(spec)
        assert all(override_key(text) in known for text in overrides), overrides
    else:
        load_config(spec, overrides, without_data=True)
