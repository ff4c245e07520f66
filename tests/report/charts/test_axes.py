import numpy as np

from clipin_jax.report.charts.axes import tick_labels, ticks


def test_ticks_are_round_numbers():
    assert ticks(0, 2000, 4) == [0, 500, 1000, 1500, 2000]
    np.testing.assert_allclose(ticks(-0.11, 0.32, 4), [-0.1, 0, 0.1, 0.2, 0.3])


def test_labels_of_ticks_differ():
    assert tick_labels([0.8525, 0.855, 0.8575]) == ["0.8525", "0.8550", "0.8575"]
    assert tick_labels([-0.5, 0, 0.5, 1]) == ["-0.5", "0", "0.5", "1.0"]
    assert tick_labels([0, 500, 1000]) == ["0", "500", "1000"]
    assert tick_labels([0, 2e-5]) == ["0", "2e-5"]
