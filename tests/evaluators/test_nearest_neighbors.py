import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.nearest_neighbors import (
    NearestNeighbors,
    nearest,
    vote_shares,
)
from tests.support.in_memory import (
    STATE,
    Clusters,
    cluster_points,
    pixel_encoder,
)


@pytest.fixture(scope="module")
def encoder():
    return pixel_encoder()


def brute(train, test, k):
    """Indices by falling cosine, of equal ones the first."""
    train, test = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, test))
    return np.argsort(-np.round(test @ train.T, 6), axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("chunk", [(512, 8192), (7, 30), (1, 1)])
def test_chunked_search_equals_brute_force(chunk):
    train, _ = cluster_points(100, 4)
    train[50:60] = train[10:20]  # ties, over chunks too
    test = np.vstack([cluster_points(20, 4, seed=3)[0], train[8:22]])
    neighbors, cosines = nearest(train, test, 5, *chunk)
    np.testing.assert_array_equal(np.sort(neighbors), np.sort(brute(train, test, 5)))
    assert cosines[21].max() == 1


def test_equal_neighbors_are_taken_in_order():
    train = np.ones((6, 3))
    neighbors, _ = nearest(train, np.ones((1, 3)), 4, rows=1, columns=2)
    assert sorted(neighbors[0]) == [0, 1, 2, 3]


@pytest.mark.parametrize("temperature", [None, 0.07])
def test_votes_equal_scikit_learn(temperature):
    train, labels = cluster_points(200, 4)
    test, _ = cluster_points(50, 4, seed=1)
    weigh = lambda distance: np.exp((1 - distance) / temperature)  # noqa: E731
    reference = KNeighborsClassifier(
        20, metric="cosine", weights=weigh if temperature else "uniform"
    ).fit(train, labels)
    neighbors, cosines = nearest(train, test, 20)
    weights = np.exp(cosines / temperature) if temperature else np.ones(neighbors.shape)
    shares = vote_shares(np.eye(4, dtype=bool)[labels], neighbors, weights)
    # Cosines are rounded to six digits, which moves a weight by 1e-5 of itself.
    tolerance = 1e-5 if temperature else 1e-12
    np.testing.assert_allclose(shares, reference.predict_proba(test), atol=tolerance)


@pytest.mark.parametrize("many", [False, True])
def test_neighbors_find_the_class(encoder, many):
    sources = dict(
        source=Clusters(90, 5, 1, many),
        train_source=Clusters(200, 5, 2, many),
    )
    values = dict(NearestNeighbors(encoder, **sources, batch_size=16).run(STATE))
    assert values["accuracy"] > 0.7 > values["chance/accuracy"]
    assert 0.6 < values["majority/accuracy"] <= 1
    other = NearestNeighbors(pixel_encoder(1), **sources, batch_size=7)
    assert values == pytest.approx(dict(other.run(STATE)), abs=1e-6)
    assert all(type(v) is float for v in values.values())


def test_a_tied_vote_is_a_miss(encoder):
    train = Clusters(4, 2, labels=[0, 0, 1, 1])
    evaluator = NearestNeighbors(
        encoder, source=Clusters(4, 2), train_source=train, k=4
    )
    assert dict(evaluator.run(STATE))["majority/accuracy"] == 0


def test_nan_features_score_zero():
    def broken(variables, image):
        pooled = image.reshape(len(image), -1) * float("nan")
        return {"pooled": pooled, "embedding": pooled}

    evaluator = NearestNeighbors(
        pixel_encoder(image=broken),
        source=Clusters(20, 3),
        train_source=Clusters(20, 3, 1),
        k=3,
    )
    values = dict(evaluator.run(STATE))
    assert values["accuracy"] == values["majority/accuracy"] == 0


def test_wrong_numbers(encoder):
    sources = dict(source=Clusters(9, 3), train_source=Clusters(9, 3))
    with pytest.raises(ClipinError, match="k must be from 1 to 9"):
        NearestNeighbors(encoder, **sources)
    with pytest.raises(ClipinError, match="temperature above 0"):
        NearestNeighbors(encoder, **sources, k=3, temperature=0)
