import numpy as np
import pytest

from clipin_jax.report.charts.histogram import histogram
from tests.support.html_pages import ParsedPage


def bars(values, mark=None):
    page = ParsedPage(histogram("x", values, mark))
    tips = [text for text in page.texts if "%)" in text]
    assert page.count("rect") == len(tips)
    for name, attributes in page.tags:
        if name == "rect":
            assert 48 <= float(attributes["x"]) <= 292
            assert float(attributes["y"]) + float(attributes["height"]) == 143
    return page, tips


def test_integers_have_a_bar_each():
    page, tips = bars(np.array([3, 3, 4, 7]), mark=5)
    assert tips == ["3: 2 (50.0%)", "4: 1 (25.0%)", "7: 1 (25.0%)"]
    assert page.count("g", **{"class": "level"}) == 1
    assert "median 3.5" in page.texts


def test_integers_of_a_long_range_share_bars():
    _, tips = bars(np.arange(1000))
    assert len(tips) <= 40 and tips[0] == "0 to 24: 25 (2.5%)"


def test_values_far_out_are_counted_in_the_last_bar():
    values = np.append(np.linspace(0, 1, 999), 1e6)
    page, tips = bars(values, mark=2.0)
    counts = [int(tip.split(": ")[1].split(" ")[0]) for tip in tips]
    assert sum(counts) == 1000 and len(tips) == 40
    assert page.count("g", **{"class": "level"}) == 0


@pytest.mark.parametrize("value", [0.5, 3])
def test_equal_values_have_one_bar(value):
    assert len(bars(np.array([value, value]))[1]) == 1
