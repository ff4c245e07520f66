import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from clipin_jax.data import make_source
from clipin_jax.data.image.decode import decode
from clipin_jax.data.image.views import evaluation_view
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.linear_probe import LinearProbe
from clipin_jax.evaluators.probes.labeled_task import make_task
from clipin_jax.evaluators.probes.logistic_regression import (
    MANY_LABELS,
    ONE_LABEL,
    fit,
    holdout,
)
from clipin_jax.evaluators.probes.strength_search import COARSE, TOLERANCE
from tests.support.in_memory import (
    STATE,
    Clusters,
    cluster_points,
    pixel_encoder,
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """So small products are no faster with more, and slower beside other work."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def encoder():
    return pixel_encoder()


@pytest.mark.parametrize("strength", [1e-3, 1e-1])
def test_softmax_equals_scikit_learn(strength):
    features, labels = cluster_points(200, 5)
    probe = fit(features, np.eye(5)[labels], ONE_LABEL, strength=strength)
    reference = LogisticRegression(
        C=1 / (len(labels) * strength), tol=1e-10, max_iter=10000
    ).fit(features, labels)
    ours = ONE_LABEL.probabilities(probe.logits(features))
    np.testing.assert_allclose(ours, reference.predict_proba(features), atol=2e-5)
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


def test_a_start_does_not_change_the_solution():
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


def test_devices_and_batch_size_change_nothing(encoder):
    sources = dict(source=Clusters(60, 6, 1), train_source=Clusters(240, 6, 2))
    values = dict(LinearProbe(encoder, **sources).run(STATE))
    other = LinearProbe(pixel_encoder(1), **sources, batch_size=7)
    assert values == pytest.approx(dict(other.run(STATE)), abs=1e-6)


def test_strengths_are_searched_around_the_best(encoder):
    sources = dict(source=Clusters(60, 6, 1), train_source=Clusters(240, 6, 2))
    found = dict(LinearProbe(encoder, **sources).run(STATE))["strength"] * 240
    steps = 8 * np.log10(found / COARSE[0])
    assert steps == pytest.approx(round(steps), abs=1e-6)
    # Of all 96 on the way, none is better by more than the solver's tolerance.
    every = np.logspace(-6, 6, 97) / 240
    best = dict(LinearProbe(encoder, **sources, strengths=every.tolist()).run(STATE))
    assert np.log10(best["strength"] * 240) == pytest.approx(np.log10(found), abs=0.3)


def test_a_validation_source_chooses_the_strength(encoder):
    rng = np.random.default_rng(0)
    noise = Clusters(200, 6, 3, labels=rng.integers(6, size=200))
    sources = dict(source=Clusters(60, 6, 1), train_source=Clusters(240, 6, 2))
    usual = dict(LinearProbe(encoder, **sources).run(STATE))
    misled = dict(LinearProbe(encoder, **sources, val_source=noise).run(STATE))
    assert misled["strength"] > 10 * usual["strength"]


def test_features_that_are_no_numbers_score_nothing():
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


def test_several_classes_may_be_one_class_of_the_other_source():
    train = Clusters(40, 2, names=("healthy", "ill"))
    graded = Clusters(30, 3, names=("none", "mild", "severe"))
    classes = (("none", "healthy"), ("mild", "ill"), ("severe", "ill"))
    task = make_task(graded, train, classes)
    own = np.array([record["label"] for record in graded])
    np.testing.assert_array_equal(task.labels, own > 0)
    graded = Clusters(30, 3, many=True, names=graded.classes)
    train = Clusters(40, 2, many=True, names=train.classes)
    many = make_task(graded, train, classes)
    np.testing.assert_array_equal(many.labels[:, 1], own > 0)


@pytest.mark.parametrize(
    ("source", "train", "classes", "message"),
    [
        (Clusters(9, 3), Clusters(9, 2), (), "has 3 classes.*'class 2'.*classes"),
        (Clusters(9, 3), Clusters(9, 3), {"clas 1": "class 1"}, "mean 'class 1'"),
        (Clusters(9, 3), Clusters(9, 3), {"class 1": "clas 1"}, "mean 'class 1'"),
        (Clusters(9, 3), Clusters(9, 3), ("abc",), "classes must say"),
        (Clusters(9, 3), Clusters(9, 3, many=True), (), "of one kind"),
        (Clusters(9, 1), Clusters(9, 1), (), "train_source has 1 classes"),
        (Clusters(9, 3), Clusters(9, 3, labels=[0, 1] * 4 + [0]), (),
         "train_source has no image of 'class 2', source has"),
        (Clusters(2, 2, labels=[0, 0]), Clusters(9, 2, labels=[0] * 9), (),
         "all images of train_source are of one class, class 0"),
    ],
)  # fmt: skip
def test_sources_that_do_not_fit(encoder, source, train, classes, message):
    with pytest.raises(ClipinError, match=message):
        LinearProbe(encoder, source=source, train_source=train, classes=classes)


def test_wrong_numbers(encoder):
    sources = dict(source=Clusters(9, 3), train_source=Clusters(9, 3))
    with pytest.raises(ClipinError, match="strengths above 0"):
        LinearProbe(encoder, **sources, strengths=(0.0,))
    with pytest.raises(ClipinError, match="holdout_every must be at least 2"):
        LinearProbe(encoder, **sources, holdout_every=1)


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
    ours = (probe.logits(test).argmax(axis=1) == truth).mean()
    assert ours == pytest.approx(reference.score(test, truth), abs=0.002)
