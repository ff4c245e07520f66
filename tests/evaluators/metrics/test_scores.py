import tracemalloc

import numpy as np
import pytest

from clipin_jax.evaluators.metrics import scores


def unit(rng, *shape):
    x = rng.normal(size=shape).astype(np.float32)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_topk_counts_ties_and_nan_against_the_model():
    labels = np.array([0, 1, 2])
    equal = np.ones((3, 4))
    assert scores.topk_accuracy(labels, equal, 3) == 0
    assert scores.topk_accuracy(labels, equal, 4) == 1
    assert scores.topk_accuracy(labels, equal * np.nan, 1) == 0
    assert scores.topk_accuracy(labels, np.eye(3, 4), 1) == 1


def test_mean_per_class_recall_weighs_classes_equally():
    labels = np.array([0, 0, 0, 2])
    values = np.array([[1.0, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]])
    assert scores.topk_accuracy(labels, values, 1) == 0.75
    assert scores.mean_per_class_recall(labels, values) == 0.5


def test_one_dimensional_scores():
    labels, values = np.array([0, 1, 1, 0]), np.array([0.1, 0.9, 0.4, 0.4])
    assert scores.roc_auc(labels, values) == pytest.approx(0.875)
    assert scores.average_precision(labels, values) == pytest.approx(5 / 6)


def test_features_give_the_ranks_of_their_similarity():
    rng = np.random.default_rng(0)
    owner = rng.permutation(np.repeat(np.arange(13), 3))
    image, text = unit(rng, 13, 8), unit(rng, 39, 8)
    image_ranks, text_ranks = scores.feature_ranks(image, text, owner, rows=5)
    similarity = image @ text.T
    np.testing.assert_array_equal(
        image_ranks, scores.image_to_text_ranks(similarity, owner)
    )
    np.testing.assert_array_equal(
        text_ranks, scores.text_to_image_ranks(similarity, owner)
    )


def test_ranks_never_hold_the_whole_matrix():
    rng = np.random.default_rng(4)
    owner = np.repeat(np.arange(1000), 5)
    image, text = unit(rng, 1000, 16), unit(rng, 5000, 16)
    tracemalloc.start()
    scores.feature_ranks(image, text, owner, rows=20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.2 * 4 * len(image) * len(text)


@pytest.mark.parametrize("value", ["collapsed", "nan"])
def test_equal_and_nan_features_are_ranked_last(value):
    rng = np.random.default_rng(1)
    image = np.repeat(unit(rng, 1, 64), 50, axis=0)
    if value == "nan":
        image *= np.nan
    owner = np.repeat(np.arange(50), 2)
    image_ranks, text_ranks = scores.feature_ranks(image, image[owner], owner, rows=7)
    assert (image_ranks == 98).all()
    assert (text_ranks == 49).all()


def test_chance_recalls_are_what_random_orders_get():
    rng = np.random.default_rng(2)
    matches = np.array([1, 1, 3, 2])
    chance = scores.chance_recalls(matches, 12)
    orders = np.argsort(rng.random((40000, 12)), axis=1)
    best = np.stack([orders[:, :m].min(axis=1) for m in matches])
    simulated = [(best < k).mean() for k in range(1, 13)]
    np.testing.assert_allclose(chance, simulated, atol=5e-3)
    assert scores.chance_recalls(np.ones(7, int), 7)[0] == pytest.approx(1 / 7)


def test_classification_scores_of_both_kinds():
    rng = np.random.default_rng(3)
    labels = rng.integers(6, size=60)
    sure = np.eye(6)[labels]
    single = scores.classification_scores(labels, sure)
    for name in ("accuracy", "top5_accuracy", "mean_per_class_recall", "macro_auc"):
        assert single[name] == 1
    assert single["chance/accuracy"] == pytest.approx(1 / 6)
    assert single["chance/top5_accuracy"] == pytest.approx(5 / 6)

    many = rng.random((60, 6)) < 0.4
    many[:, 5] = False
    double = scores.classification_scores(many, many.astype(float))
    assert double["accuracy"] == double["macro_auc"] == 1
    assert double["mean_average_precision"] == 1
    assert double["classes_left_out"] == 1
    assert double["chance/accuracy"] == pytest.approx(
        many[many.any(1)].sum(1).mean() / 6
    )
    assert all(type(v) is float for v in {**single, **double}.values())


def test_a_diverged_classifier_scores_zero():
    labels = np.arange(12) % 4
    values = scores.classification_scores(labels, np.full((12, 4), np.nan))
    assert values["accuracy"] == values["mean_per_class_recall"] == 0
    assert np.isnan(values["macro_auc"]) and np.isnan(values["mean_average_precision"])
    assert values["classes_left_out"] == 0
