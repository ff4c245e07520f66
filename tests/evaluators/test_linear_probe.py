import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.linear_probe import LinearProbe
from clipin_jax.evaluators.probes.strength_search import COARSE
from tests.support.in_memory import (
    STATE,
    Clusters,
    cluster_points,
    pixel_encoder,
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Products this small are no faster with more threads, and slower beside others."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def encoder():
    return pixel_encoder()


@pytest.mark.parametrize("many", [False, True])
def test_a_probe_learns_and_yields_chance(encoder, many):
    probe = LinearProbe(
        encoder,
        source=Clusters(60, 6, 1, many),
        train_source=Clusters(240, 6, 2, many),
        batch_size=64,
    )
    values = dict(probe.run(STATE))
    assert values["accuracy"] > 0.8 > 0.4 > values["chance/accuracy"]
    assert values["macro_auc"] > 0.9
    assert 1e-5 < values["strength"] < 10
    assert all(type(v) is float for v in values.values())
    assert values == dict(probe.run(STATE))


def test_scores_do_not_depend_on_devices_or_batch_size(encoder):
    sources = dict(source=Clusters(60, 6, 1), train_source=Clusters(240, 6, 2))
    values = dict(LinearProbe(encoder, **sources).run(STATE))
    other = LinearProbe(pixel_encoder(1), **sources, batch_size=7)
    assert values == pytest.approx(dict(other.run(STATE)), abs=1e-6)


def test_strengths_are_searched_around_the_best(encoder):
    sources = dict(source=Clusters(60, 6, 1), train_source=Clusters(240, 6, 2))
    strength = dict(LinearProbe(encoder, **sources).run(STATE))["strength"] * 240
    steps = 8 * np.log10(strength / COARSE[0])
    assert steps == pytest.approx(round(steps), abs=1e-6)
    # Of all 96 on the way, none is better by more than the solver's tolerance.
    every = np.logspace(-6, 6, 97) / 240
    best = dict(LinearProbe(encoder, **sources, strengths=every.tolist()).run(STATE))
    assert np.log10(best["strength"] * 240) == pytest.approx(
        np.log10(strength), abs=0.3
    )


def test_a_validation_source_chooses_the_strength(encoder):
    rng = np.random.default_rng(0)
    noise = Clusters(200, 6, 3, labels=rng.integers(6, size=200))
    sources = dict(source=Clusters(60, 6, 1), train_source=Clusters(240, 6, 2))
    usual = dict(LinearProbe(encoder, **sources).run(STATE))
    misled = dict(LinearProbe(encoder, **sources, val_source=noise).run(STATE))
    assert misled["strength"] > 10 * usual["strength"]


def test_nan_features_score_zero():
    def broken(variables, image):
        pooled = image.reshape(len(image), -1) * float("nan")
        return {"pooled": pooled, "embedding": pooled}

    sources = dict(source=Clusters(20, 3), train_source=Clusters(20, 3, 1))
    values = dict(LinearProbe(pixel_encoder(image=broken), **sources).run(STATE))
    assert values["accuracy"] == 0


def test_sources_may_differ_in_numbers_and_names_of_classes(encoder):
    train = Clusters(240, 3, 2, names=("cat", "dog", "cow"))
    labels = cluster_points(60, 3, seed=1)[1]
    same = Clusters(60, 3, 1, names=("cat", "dog", "cow"))
    turned = Clusters(60, 3, 1, names=("cow", "cat", "dog"), labels=(labels + 1) % 3)
    named = Clusters(60, 3, 1, names=("Kuh", "cat", "dog"), labels=(labels + 1) % 3)
    values = dict(LinearProbe(encoder, source=same, train_source=train).run(STATE))
    again = dict(LinearProbe(encoder, source=turned, train_source=train).run(STATE))
    assert again == values
    probe = LinearProbe(
        encoder, source=named, train_source=train, classes={"Kuh": "cow"}
    )
    assert dict(probe.run(STATE)) == values


def test_wrong_numbers(encoder):
    sources = dict(source=Clusters(9, 3), train_source=Clusters(9, 3))
    with pytest.raises(ClipinError, match="strengths above 0"):
        LinearProbe(encoder, **sources, strengths=(0.0,))
    with pytest.raises(ClipinError, match="holdout_every must be at least 2"):
        LinearProbe(encoder, **sources, holdout_every=1)
