"""The figures are what their script draws, and it draws what the package does."""

import importlib
import math
import re
from pathlib import Path

import pytest

from clipin_jax.core import sharding
from tests.test_imports import FLOORS

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs/figures"
SMALLEST = 11  # px


@pytest.fixture
def draw(monkeypatch):
    """Imports a module of the drawings by its name."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def test_stored_figures_are_those_of_the_script(draw):
    stored = {path.name: path.read_text() for path in FOLDER.glob("*.svg")}
    assert stored == draw("draw").all_figures(), "run: python docs/figures/draw.py"


def test_every_figure_is_on_a_page_with_its_own_words():
    pages = "".join(path.read_text() for path in (ROOT / "docs").rglob("*.md"))
    for path in FOLDER.glob("*.svg"):
        [name] = re.findall(r"<title>(.+)</title>", path.read_text())
        assert re.search(rf"!\[{re.escape(name)}\]\(\S*figures/{path.name}\)", pages)


def test_letters_are_large_enough():
    for path in FOLDER.glob("*.svg"):
        sizes = re.findall(r'font-size="([\d.]+)"', path.read_text())
        assert sizes and min(map(float, sizes)) >= SMALLEST, path.name


def test_text_that_does_not_fit_is_an_error(draw):
    figure = draw("draw").Figure(200, 100, "narrow")
    with pytest.raises(ValueError, match="wider than its box"):
        figure.box(10, 10, 40, 30, "a long title")
    with pytest.raises(ValueError, match="too many lines"):
        figure.box(10, 10, 90, 30, "title", "one|two")
    with pytest.raises(ValueError, match="leaves the card"):
        figure.note(150, 20, "a long line of words")


def test_rooms_are_those_of_the_imports(draw):
    floors = [set(rooms) - {"__init__", "__main__"} for rooms in FLOORS]
    drawn = [set(rooms) for rooms in draw("system").FLOORS]
    assert drawn == [rooms for rooms in floors if rooms]


def test_shares_of_a_device_are_those_of_the_presets(draw):
    """Of a slice with two times two devices."""
    sizes = {"data": 2, "fsdp": 2}
    drawn = draw("system").PRESETS
    assert drawn.keys() == sharding.PRESETS.keys()
    for preset, rules in sharding.PRESETS.items():
        for name, quarters in zip(
            ("params", "opt_state", "target_params"), drawn[preset], strict=True
        ):
            rule = next(r for pattern, r in rules if re.search(pattern, f"{name}/x"))
            parts = math.prod(sizes[axis] for axis in sharding.RULES[rule])
            assert quarters == 4 / parts, (preset, name)
