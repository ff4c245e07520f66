import numpy as np
import pytest
from scipy import stats

from clipin_jax.evaluators.metrics.correlation import pearson, spearman


@pytest.mark.parametrize("seed", range(8))
def test_correlations_equal_those_of_scipy(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 200))
    y = y + x * rng.normal()
    if seed % 2:  # ties in both
        x, y = np.round(x), np.round(y * 2)
    assert abs(spearman(x, y) - stats.spearmanr(x, y).statistic) < 1e-12
    assert abs(pearson(x, y) - stats.pearsonr(x, y).statistic) < 1e-12


def test_constants_and_nan_have_no_correlation():
    x = np.arange(5.0)
    broken = np.where(x == 2, np.nan, x)
    for correlation in (pearson, spearman):
        assert np.isnan(correlation(np.ones(5), x))
        assert np.isnan(correlation(x, broken))
