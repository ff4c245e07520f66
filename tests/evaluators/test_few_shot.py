import numpy as np
import pytest
from sklearn.linear_model import Ridge

from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.few_shot import FewShot, draw, ridge
from tests.support.in_memory import (
    STATE,
    Clusters,
    cluster_points,
    pixel_encoder,
)


@pytest.fixture(scope="module")
def encoder():
    return pixel_encoder()


@pytest.mark.parametrize("samples", [8, 90])  # fewer than features, and more
def test_ridge_equals_scikit_learn(samples):
    features, labels = cluster_points(samples, 4)
    scored, _ = cluster_points(30, 4, seed=5)
    members = np.eye(4, dtype=bool)[labels]
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-5
    x, z = (
        np.hstack([(rows - mean) / spread, np.full((len(rows), 1), 100.0)])
        for rows in (features, scored)
    )
    reference = Ridge(alpha=2.0**10, fit_intercept=False, solver="cholesky")
    expected = reference.fit(x, 2.0 * members - 1).predict(z)
    outputs = ridge(features, members, scored, 2.0**10)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-12)


def test_a_draw_takes_at_most_the_available_images_of_a_class():
    labels = np.repeat(np.arange(3), [10, 2, 7])
    members = np.eye(3, dtype=bool)[labels]
    drawn = draw(members, 5, seed=0)
    assert np.bincount(labels[drawn]).tolist() == [5, 2, 5]
    assert drawn.tolist() == draw(members, 5, seed=0).tolist()
    assert drawn.tolist() != draw(members, 5, seed=1).tolist()
    assert set(drawn) < set(draw(members, 6, seed=0))


def test_an_image_of_two_classes_is_drawn_once():
    members = np.ones((4, 2), bool)
    assert len(draw(members, 3, seed=0)) == 3


@pytest.mark.parametrize("many", [False, True])
def test_means_over_the_seeds_and_each_of_them(encoder, many):
    sources = dict(
        source=Clusters(90, 5, 1, many),
        train_source=Clusters(150, 5, 2, many),
    )
    options = dict(shots=(1, 10, 60), l2=1.0)
    evaluator = FewShot(encoder, **sources, batch_size=16, **options)
    values = dict(evaluator.run(STATE))
    assert values["1_shot/accuracy"] < values["10_shot/accuracy"]
    assert values["10_shot/accuracy"] > 0.5 > values["chance/10_shot/accuracy"]
    each = [values[f"10_shot/seed_{seed}_accuracy"] for seed in (0, 1, 2)]
    assert values["10_shot/accuracy"] == pytest.approx(np.mean(each), abs=1e-12)
    assert values["10_shot/short_classes"] == 0 < values["60_shot/short_classes"]
    other = FewShot(pixel_encoder(1), **sources, batch_size=7, **options)
    assert values == pytest.approx(dict(other.run(STATE)), abs=1e-6)
    assert all(type(v) is float for v in values.values())


def test_nan_features_score_zero():
    def broken(variables, image):
        pooled = image.reshape(len(image), -1) * float("nan")
        return {"pooled": pooled, "embedding": pooled}

    evaluator = FewShot(
        pixel_encoder(image=broken),
        source=Clusters(20, 3),
        train_source=Clusters(20, 3, 1),
        shots=(1,),
    )
    assert dict(evaluator.run(STATE))["1_shot/accuracy"] == 0


@pytest.mark.parametrize(
    "wrong", [dict(shots=()), dict(shots=(0,)), dict(seeds=()), dict(l2=0.0)]
)
def test_wrong_numbers(encoder, wrong):
    sources = dict(source=Clusters(9, 3), train_source=Clusters(9, 3))
    with pytest.raises(ClipinError, match="shots must be 1 or more"):
        FewShot(encoder, **sources, **wrong)
