from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from clipin_jax import sharding
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.encode import Encoder
from clipin_jax.evaluators.linear_probe import (
    MANY_LABELS,
    ONE_LABEL,
    LinearProbe,
    fit,
    holdout,
)

STATE = SimpleNamespace(variables=())


def problem(samples: int, classes: int, width: int = 12, seed: int = 0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=samples)
    centres = np.random.default_rng(99).normal(size=(classes, width))
    return centres[labels] + rng.normal(size=(samples, width)), labels


@pytest.mark.parametrize("strength", [1e-3, 1e-1])
def test_softmax_equals_scikit_learn(strength):
    features, labels = problem(200, 5)
    probe = fit(features, np.eye(5)[labels], ONE_LABEL, strength=strength)
    reference = LogisticRegression(
        C=1 / (len(labels) * strength), tol=1e-10, max_iter=10000
    ).fit(features, labels)
    ours = ONE_LABEL.probabilities(probe.logits(features))
    np.testing.assert_allclose(ours, reference.predict_proba(features), atol=2e-5)
    np.testing.assert_allclose(probe.weight.T, reference.coef_, atol=2e-4)


@pytest.mark.parametrize("strength", [1e-3, 1e-1])
def test_sigmoids_equal_scikit_learn(strength):
    features, labels = problem(200, 4)
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


def test_a_start_changes_the_way_not_the_end():
    features, labels = problem(100, 3)
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


class Pictures(list):
    fingerprint = "pictures"

    def __init__(self, samples: int, classes: int, seed: int, many: bool = False):
        features, labels = problem(samples, classes, seed=seed)
        pixels = np.clip(features * 20 + 128, 0, 255).astype(np.uint8)
        self.classes = tuple(f"class {k}" for k in range(classes))
        super().__init__(
            {"image": p.reshape(2, 2, 3), "captions": ("",), "label": label}
            for p, label in zip(pixels, map(self.label(many), labels), strict=True)
        )

    def annotations(self, index):
        return self[index]

    @staticmethod
    def label(many: bool):
        return (lambda k: [int(k), int(k) // 2]) if many else int


def encode_image(variables, image):
    # A constant feature must not become a division by zero.
    pooled = image.reshape(len(image), -1).astype("float32").at[:, 0].set(7.0)
    return {"pooled": pooled, "embedding": pooled}


@pytest.fixture(scope="module")
def encoder():
    return Encoder(
        SimpleNamespace(image=encode_image, text=encode_image),
        mesh=sharding.make_mesh(data=-1, fsdp=1),
        tokenizer=lambda texts: np.zeros((len(texts), 1), np.int32),
        image_size=(2, 2),
        interpolation="bicubic",
    )


@pytest.mark.parametrize("many", [False, True])
def test_probe_learns_and_says_chance(encoder, many):
    probe = LinearProbe(
        encoder,
        source=Pictures(60, 6, 1, many),
        train_source=Pictures(240, 6, 2, many),
        batch_size=64,
    )
    values = dict(probe.run(STATE))
    assert values["accuracy"] > 0.8 > 0.4 > values["chance/accuracy"]
    assert values["macro_auc"] > 0.9
    assert 1e-5 < values["strength"] < 1
    assert all(type(v) is float for v in values.values())
    assert values == dict(probe.run(STATE))


def test_wrong_input(encoder):
    with pytest.raises(ClipinError, match="5 classes, train_source has 6"):
        LinearProbe(encoder, source=Pictures(9, 5, 0), train_source=Pictures(9, 6, 0))
    with pytest.raises(ClipinError, match="strengths above 0"):
        LinearProbe(
            encoder,
            source=Pictures(9, 5, 0),
            train_source=Pictures(9, 5, 0),
            strengths=(0.0,),
        )
    with pytest.raises(ClipinError, match="of one kind"):
        LinearProbe(
            encoder,
            source=Pictures(9, 5, 0),
            train_source=Pictures(9, 5, 0, many=True),
        )
