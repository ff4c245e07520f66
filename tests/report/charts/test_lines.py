import numpy as np
import pytest

from clipin_jax.report.charts.lines import Line, line_chart, smooth
from tests.support.html_pages import ParsedPage


def test_a_constant_line_has_an_axis_range():
    values = np.array([0.5, np.nextafter(0.5, 1)])
    ParsedPage(line_chart("x", [Line("run", 0, np.array([1.0, 2.0]), values)]))


def test_smoothing_keeps_constants_and_removes_spikes():
    values = np.full(500, 3.0)
    values[77] = 1e9
    np.testing.assert_allclose(smooth(values), 3.0)


@pytest.mark.parametrize("count", [1, 2, 50, 101, 5000])
def test_long_charts_stay_small_and_inside_their_frame(count):
    steps = np.arange(1, count + 1) * 10.0
    values = np.sin(steps)
    values[count // 2] = 1e9 if count > 100 else 1  # a spike
    chart = line_chart("x", [Line("run", 0, steps, values)], chance=0.5)
    assert len(chart) < 40_000
    page = ParsedPage(chart)
    for name, attributes in page.tags:
        if name == "circle":
            assert 0 <= float(attributes["cx"]) <= 300
            assert 0 <= float(attributes["cy"]) <= 165
    assert "nan" not in chart
