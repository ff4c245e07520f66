"""Scores equal those of scikit-learn, ALBEF and brute force.

They are compared in golden files, and in random cases with ties, empty classes and
several captions.
"""

import numpy as np
import pytest
from sklearn import metrics

from clipin_jax.evaluators.metrics import scores
from tests.parity.golden_files import load, select_prefix

TOLERANCE = {"rtol": 0, "atol": 1e-12}


def cases(golden_folder, name: str) -> dict[str, dict[str, np.ndarray]]:
    """Returns the arrays of a file, grouped by the first part of their names."""
    file = load(golden_folder, name)
    names = {key.partition("/")[0] for key in file.arrays}
    return {case: file.section(f"{case}/") for case in sorted(names)}


def test_classification(golden_folder):
    for case, g in cases(golden_folder, "eval_classification.npz").items():
        labels, values, defined = g["labels"], g["scores"], g["defined"]
        auc = scores.roc_auc(labels, values)
        np.testing.assert_array_equal(np.isnan(auc), ~defined, err_msg=case)
        ours = {
            "auc_per_class": auc[defined],
            "ap_per_class": scores.average_precision(labels, values),
            "auc_macro_defined": scores.macro_roc_auc(labels, values).value,
            "ap_macro_defined": scores.macro_average_precision(labels, values).value,
            "ap_macro_all": scores.average_precision(labels, values).mean(),
            "top_labels_accuracy": scores.top_labels_accuracy(labels, values),
        }
        g["auc_per_class"] = g["auc_per_class"][defined]
        for field in ours.keys() & g.keys():
            np.testing.assert_allclose(
                ours[field], g[field], **TOLERANCE, err_msg=f"{case}/{field}"
            )
        left_out = scores.macro_roc_auc(labels, values).left_out
        assert left_out == (~defined).sum(), case


def test_retrieval(golden_folder):
    for case, g in cases(golden_folder, "eval_retrieval.npz").items():
        similarity, owner = g["similarity"], g["text_to_image"]
        ranks = {
            "i2t": scores.image_to_text_ranks(similarity, owner),
            "t2i": scores.text_to_image_ranks(similarity, owner),
        }
        for direction, rank in ranks.items():
            expected = g[f"pessimistic/rank_{direction}"]
            np.testing.assert_array_equal(rank, expected, err_msg=case)
            recalls = select_prefix(g, f"pessimistic/{direction}_r")
            assert recalls
            for k, recall in recalls.items():
                np.testing.assert_allclose(
                    scores.recall_at(rank, int(k)), recall, **TOLERANCE, err_msg=case
                )


@pytest.mark.parametrize("rows", [3, 5, 100])
def test_ranks_do_not_depend_on_the_block_size(golden_folder, rows):
    for case, g in cases(golden_folder, "eval_retrieval.npz").items():
        similarity, owner = g["similarity"], g["text_to_image"]
        blocks = [
            scores.image_to_text_ranks(similarity[i : i + rows], owner, first_image=i)
            for i in range(0, len(similarity), rows)
        ]
        expected = g["pessimistic/rank_i2t"]
        np.testing.assert_array_equal(np.concatenate(blocks), expected, err_msg=case)


def random_labels(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels [90, 7] bool and scores [90, 7]; odd seeds give ties.

    No sample has the last class; all have the one before.
    """
    rng = np.random.default_rng(seed)
    labels = rng.random((90, 7)) < rng.random(7)
    labels[:, 5], labels[:, 6] = True, False
    values = rng.normal(size=labels.shape) + labels
    return labels, np.round(values * 2) / 2 if seed % 2 else values


@pytest.mark.parametrize("seed", range(10))
def test_areas_equal_scikit_learn(seed):
    labels, values = random_labels(seed)
    auc = scores.roc_auc(labels, values)
    precision = scores.average_precision(labels, values)
    both = labels.any(axis=0) & ~labels.all(axis=0)
    assert not both[5:].any() and np.isnan(auc[~both]).all()
    wanted = metrics.roc_auc_score(labels[:, both], values[:, both], average=None)
    np.testing.assert_allclose(auc[both], wanted, **TOLERANCE)
    some = labels.any(axis=0)
    wanted = metrics.average_precision_score(
        labels[:, some], values[:, some], average=None
    )
    np.testing.assert_allclose(precision[some], wanted, **TOLERANCE)
    assert precision[6] == 0
    macro = scores.macro_roc_auc(labels, values)
    wanted = metrics.roc_auc_score(labels[:, both], values[:, both])
    np.testing.assert_allclose(macro.value, wanted, **TOLERANCE)
    assert macro.left_out == (~both).sum()
    macro = scores.macro_average_precision(labels, values)
    wanted = metrics.average_precision_score(labels[:, some], values[:, some])
    np.testing.assert_allclose(macro.value, wanted, **TOLERANCE)
    assert macro.left_out == 1


@pytest.mark.parametrize("seed", range(10))
def test_accuracies_equal_scikit_learn_and_brute_force(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, 80)  # of 7 classes: the last has no sample
    values = rng.normal(size=(80, 7)) + 2 * np.eye(7)[labels]
    guess = values.argmax(axis=1)
    np.testing.assert_allclose(
        [
            scores.topk_accuracy(labels, values, 1),
            scores.topk_accuracy(labels, values, 3),
            scores.mean_per_class_recall(labels, values),
        ],
        [
            metrics.accuracy_score(labels, guess),
            metrics.top_k_accuracy_score(labels, values, k=3, labels=range(7)),
            metrics.recall_score(
                labels, guess, labels=np.unique(labels), average="macro"
            ),
        ],
        **TOLERANCE,
    )
    tied = np.round(values)
    wanted = [
        sum(tied[i, other] >= tied[i, label] for other in range(7) if other != label)
        for i, label in enumerate(labels)
    ]
    np.testing.assert_array_equal(scores.label_ranks(labels, tied), wanted)


@pytest.mark.parametrize("seed", range(10))
def test_multi_label_accuracy_equals_brute_force(seed):
    labels, values = random_labels(seed)
    labels[:3] = False
    shares = []
    for is_label, row in zip(labels, values, strict=True):
        k = is_label.sum()
        # Among equal scores the wrong ones come first.
        best = sorted(range(7), key=lambda c: (-row[c], is_label[c]))[:k]
        shares += [is_label[best].sum() / k] if k else []
    assert len(shares) < len(labels)
    accuracy = scores.top_labels_accuracy(labels, values)
    np.testing.assert_allclose(accuracy, np.mean(shares), **TOLERANCE)


@pytest.mark.parametrize("seed", range(10))
def test_ranks_equal_brute_force(seed):
    """Features are small integers: products are exact, and many are equal."""
    rng = np.random.default_rng(seed)
    owner = rng.permutation(np.repeat(np.arange(23), rng.integers(1, 6, 23)))
    image = rng.integers(-1, 2, (23, 4)).astype(np.float32)
    text = rng.integers(-1, 2, (len(owner), 4)).astype(np.float32)
    similarity = image @ text.T
    of_images = [
        min(
            sum(row[t] >= row[caption] for t in range(len(owner)) if owner[t] != i)
            for caption in np.flatnonzero(owner == i)
        )
        for i, row in enumerate(similarity)
    ]
    of_texts = [
        sum(column[i] >= column[owner[t]] for i in range(23) if i != owner[t])
        for t, column in enumerate(similarity.T)
    ]
    ranks = scores.feature_ranks(image, text, owner, rows=int(rng.integers(1, 30)))
    np.testing.assert_array_equal(ranks[0], of_images)
    np.testing.assert_array_equal(ranks[1], of_texts)
    for k in (1, 5, 10):
        wanted = np.mean(np.less(of_images, k))
        np.testing.assert_allclose(scores.recall_at(ranks[0], k), wanted, **TOLERANCE)
    wanted = np.median(np.add(of_texts, 1))
    np.testing.assert_allclose(scores.median_rank(ranks[1]), wanted, **TOLERANCE)
