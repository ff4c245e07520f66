import numpy as np

from clipin_jax.report import heatmaps


def test_heatmaps_are_scaled_and_constant_ones_are_zero():
    small = np.random.default_rng(0).random((4, 6))
    large = heatmaps.heatmap(small, (40, 60))
    assert large.shape == (40, 60) and large.min() == 0 and large.max() == 1
    for value in (0.0, 3.3, np.nan):
        even = heatmaps.heatmap(np.full((4, 4), value), (8, 8))
        assert np.array_equal(even, np.zeros((8, 8)))
    image = np.full((40, 60, 3), 90, np.uint8)
    shown = heatmaps.overlay(image, small)
    assert shown.shape == image.shape and shown.dtype == np.uint8
    assert np.array_equal(heatmaps.overlay(image, np.ones((4, 6))), image)
    # Where the map is greatest the image is dark red, where it is least unchanged.
    assert tuple(shown[np.unravel_index(large.argmax(), large.shape)]) == (128, 0, 0)
    assert tuple(shown[np.unravel_index(large.argmin(), large.shape)]) == (90, 90, 90)
