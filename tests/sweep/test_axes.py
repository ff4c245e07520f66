"""Keys with values and ranges: how they are written, and where points lie."""

import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.sweep.space import designs
from clipin_jax.sweep.space.axes import (
    Choices,
    Range,
    python_axis,
    read_axis,
    read_space,
    split_values,
)


def test_commas_inside_of_brackets_and_quotes_do_not_split():
    assert split_values("1,2") == ["1", "2"]
    assert split_values("(1, 2),(3,4)") == ["(1, 2)", "(3,4)"]
    assert split_values("{'name': 'a', 'b': [1,2]}, x") == [
        "{'name': 'a', 'b': [1,2]}", "x",
    ]  # fmt: skip
    assert split_values("'a,b',\"c,(d\"") == ["'a,b'", '"c,(d"']


def test_one_value_is_an_override_of_all_points():
    space = read_space([("a", "1,2"), ("b", "(1,2)"), ("c", "../x/y")])
    assert space.axes == {"a": Choices(("1", "2"))}
    assert space.fixed == ("b=(1,2)", "c=../x/y")


def test_paths_are_no_ranges():
    assert read_axis("k", "../a,../b") == Choices(("../a", "../b"))
    assert read_axis("k", "a/../b") == "a/../b"


@pytest.mark.parametrize(
    "text, axis",
    [
        ("1e-4..1e-2:log", Range(1e-4, 1e-2, log=True, integer=False)),
        ("1..8:log:int", Range(1, 8, log=True, integer=True)),
        ("-0.5..0.5", Range(-0.5, 0.5, log=False, integer=False)),
    ],
)
def test_ranges(text, axis):
    assert read_axis("k", text) == axis


@pytest.mark.parametrize(
    "text, message",
    [
        ("low..1", "'low' is no number"),
        ("1..", "'' is no number"),
        ("2..1", "2 is not below 1"),
        ("0..1:log", "begins above 0"),
        ("0.5..3:int", "whole numbers"),
        ("1..2:lag", "did you mean 'log'"),
        ("1,,2", "empty"),
        ("1,1", "the value 1 twice"),
    ],
)
def test_wrong_values_are_one_line(text, message):
    with pytest.raises(ClipinError, match=message) as error:
        read_axis("optim.b2", text)
    assert "optim.b2" in str(error.value) and "\n" not in str(error.value)


def test_an_empty_list_of_a_file_and_an_empty_grid_are_refused():
    with pytest.raises(ClipinError, match="grid is empty"):
        python_axis("k", [])
    with pytest.raises(ClipinError, match="grid is empty"):
        designs.grid(read_space([("a", "1")]))


def test_values_of_a_file_are_written_as_overrides():
    assert python_axis("k", [1e-3, (1, 2), "a,b"]) == Choices(
        ("0.001", "(1, 2)", "'a,b'")
    )
    assert python_axis("k", "1..2") == Range(1, 2, log=False, integer=False)
    assert python_axis("k", 3) == "3"


def test_a_grid_has_all_combinations_and_zip_has_rows():
    space = read_space([("a", "1,2"), ("b", "x,y")])
    assert len(designs.grid(space)) == 4
    assert designs.zipped(space) == [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}]
    with pytest.raises(ClipinError, match="a has 2, b has 3"):
        designs.zipped(read_space([("a", "1,2"), ("b", "x,y,z")]))
    with pytest.raises(ClipinError, match="a has a range"):
        designs.grid(read_space([("a", "1..2")]))


SPACE = read_space([("a", "1e-4..1e-2:log"), ("b", "1..4:int"), ("c", "x,y")])


@pytest.mark.parametrize("method", designs.DRAWN)
def test_drawn_points_lie_in_the_space_and_begin_alike(method):
    points = designs.DRAWN[method](SPACE, 32, 0)
    rates = np.log10([float(point["a"]) for point in points])
    assert rates.min() >= -4 and rates.max() <= -2
    assert 8 <= np.sum(rates < -3) <= 24
    assert {point["b"] for point in points} == {"1", "2", "3", "4"}
    assert {point["c"] for point in points} == {"x", "y"}
    assert designs.DRAWN[method](SPACE, 5, 0) == points[:5]
    assert designs.DRAWN[method](SPACE, 32, 1) != points


def test_quasi_random_points_cover_each_quarter():
    points = designs.quasi(read_space([("a", "0..1")]), 16, 3)
    values = np.array([float(point["a"]) for point in points])
    assert np.histogram(values, bins=4, range=(0, 1))[0].tolist() == [4] * 4
