"""Pages name files that exist, and link to pages that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/methods/*.md")]
)
FILE = re.compile(r"`((?:[a-z_]+/)+[a-z_0-9]+\.(?:py|md|svg))`")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_files_and_links_exist(page):
    text = page.read_text()
    for name in FILE.findall(text):
        places = [ROOT / name, ROOT / "clipin_jax" / name]
        assert any(path.is_file() for path in places), f"{page.name}: no file {name}"
    for link in LINK.findall(text):
        assert (page.parent / link).exists(), f"{page.name}: broken link {link}"
