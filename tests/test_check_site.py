"""The check of the built site finds what is wrong with one."""

import importlib
import json

import pytest

from tests.conftest import REPOSITORY

pytest.importorskip("sphinx")


@pytest.fixture
def check(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "docs")
    return importlib.import_module("check_site")


@pytest.fixture
def site(tmp_path):
    """A site with three pages, one of them found by a word that people type."""
    index = {
        "docnames": ["guides/data", "guides/help", "start/own"],
        "titles": ["Data", "Help", "Your own"],
        "alltitles": {"Data": [[0, None]], "Help": [[1, None]]},
        "indexentries": {"oom": [[1, "index-0", True]], "data": [[2, "i", False]]},
        "objects": {"": [[0, 0, 1, "cv", "data.views"]]},
        "terms": {"oom": [0, 1], "pair": [0, 2], "view": 0},
        "titleterms": {"data": 0},
    }
    (tmp_path / "searchindex.js").write_text(f"Search.setIndex({json.dumps(index)})")
    return tmp_path


def test_search_ranks_as_the_site_does(check, site):
    index = check.read_index(site)
    assert check.search(index, "OOM") == ["guides/help", "guides/data"]
    assert check.search(index, "pairs") == ["guides/data", "start/own"]
    assert check.search(index, "data.views") == ["guides/data"]
    assert check.search(index, "pairs views") == ["guides/data"]
    assert check.search(index, "nothing") == []


def test_a_page_that_is_not_found_and_a_network_fail_the_check(check, site, capsys):
    tag = '<script src="https://cdn.example.org/x.js"></script>'
    (site / "index.html").write_text(f'<a href="https://x.org">x</a>{tag}')
    assert check.main(site) == 1
    out = capsys.readouterr().out
    assert "index.html: <script" in out and "x.org" not in out
    assert "searching 'resume' finds" in out
