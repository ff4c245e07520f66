import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from clipin_jax.data import make_source
from clipin_jax.data.image.decode import decode
from clipin_jax.data.image.views import evaluation_view
from clipin_jax.evaluators.probes.logistic_regression import (
    MANY_LABELS,
    ONE_LABEL,
    fit,
    holdout,
)
from clipin_jax.evaluators.probes.strength_search import TOLERANCE
from tests.support.in_memory import cluster_points


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Products this small are no faster with more threads, and slower beside others."""
    with threadpool_limits(1):
        yield


@pytest.mark.parametrize("strength", [1e-3, 1e-1])
def test_softmax_equals_scikit_learn(strength):
    features, labels = cluster_points(200, 5)
    probe = fit(features, np.eye(5)[labels], ONE_LABEL, strength=strength)
    reference = LogisticRegression(
        C=1 / (len(labels) * strength), tol=1e-10, max_iter=10000
    ).fit(features, labels)
    result = ONE_LABEL.probabilities(probe.logits(features))
    np.testing.assert_allclose(result, reference.predict_proba(features), atol=2e-5)
    np.testing.assert_allclose(probe.weight.T, reference.coef_, atol=2e-4)


@pytest.mark.parametrize("strength", [1e-3, 1e-1])
def test_sigmoids_equal_scikit_learn(strength):
    features, labels = cluster_points(200, 4)
    targets = np.eye(4)[labels]
    targets[::3, 1] = 1
    probe = fit(features, targets, MANY_LABELS, strength=strength)
    for column in range(4):
        reference = LogisticRegression(
            C=1 / (len(labels) * strength), tol=1e-10, max_iter=10000
        ).fit(features, targets[:, column])
        np.testing.assert_allclose(
            probe.weight[:, column], reference.coef_[0], atol=2e-4
        )
        np.testing.assert_allclose(
            probe.bias[column], reference.intercept_[0], atol=2e-4
        )


def test_the_initial_value_does_not_change_the_solution():
    features, labels = cluster_points(100, 3)
    targets = np.eye(3)[labels]
    far = fit(features, targets, ONE_LABEL, strength=1.0)
    cold = fit(features, targets, ONE_LABEL, strength=1e-2)
    warm = fit(features, targets, ONE_LABEL, strength=1e-2, start=far)
    np.testing.assert_allclose(warm.weight, cold.weight, atol=1e-4)


def test_holdout_takes_its_share_of_every_class():
    targets = np.eye(4)[np.random.default_rng(0).permutation(np.repeat(range(4), 25))]
    held = holdout(targets, 5, seed=0)
    np.testing.assert_array_equal(targets[held].sum(axis=0), [5, 5, 5, 5])
    np.testing.assert_array_equal(held, holdout(targets, 5, seed=0))
    assert (held != holdout(targets, 5, seed=1)).any()


def random_features(images: np.ndarray) -> np.ndarray:
    """[B, D] of pixels to [B, 128]: one random layer, standardised."""
    rng = np.random.default_rng(0)
    x = images.reshape(len(images), -1) / 255.0
    hidden = (x - x.mean(axis=0)) @ rng.normal(size=(x.shape[1], 128)) / 30
    hidden = np.maximum(hidden + rng.normal(size=128), 0)
    return (hidden - hidden.mean(axis=0)) / np.maximum(hidden.std(axis=0), 1e-6)


def folder_split(folder, split: str):
    """Every sixth image of an image folder, 24 pixels wide, and its label."""
    source = make_source(name="image_folder", folder=str(folder), split=split)
    records = [source[i] for i in range(0, len(source), 6)]
    images = [evaluation_view(decode(r["image"]), (24, 24)) for r in records]
    return np.array(images), np.array([r.get("label") for r in records])


def npz_split(path, split: str):
    data = np.load(path)
    return data[f"{split}_images"][:1500], data[f"{split}_labels"][:1500].ravel()


@pytest.mark.parametrize(
    "name", ["clothing", "cifar10", "mnist_t10k", "retinamnist", "breastmnist"]
)
def test_accuracy_on_real_images_is_that_of_scikit_learn(data_folder, name):
    folder, read = data_folder / "classification" / name, folder_split
    if not folder.is_dir():
        folder, read = data_folder / "npz" / f"{name}.npz", npz_split
    (images, labels), (others, truth) = read(folder, "train"), read(folder, "val")
    features = random_features(np.concatenate([images, others]))
    train, test = features[: len(labels)], features[len(labels) :]
    members, strength = np.eye(labels.max() + 1)[labels], 1e-2
    probe = fit(train, members, ONE_LABEL, strength=strength, tolerance=TOLERANCE)
    reference = LogisticRegression(
        C=1 / (len(labels) * strength), tol=1e-6, max_iter=10000
    ).fit(train, labels)
    result = (probe.logits(test).argmax(axis=1) == truth).mean()
    assert result == pytest.approx(reference.score(test, truth), abs=0.002)
