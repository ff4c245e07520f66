"""Scores equal those of scikit-learn, ALBEF and brute force, as saved in files."""

import numpy as np
import pytest

from clipin_jax.evaluators import scores

TOLERANCE = {"rtol": 0, "atol": 1e-12}


def cases(golden_folder, name: str) -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(golden_folder / name) as file:
        for key in file.files:
            case, _, field = key.partition("/")
            if field:
                found.setdefault(case, {})[field] = file[key]
    assert found
    return found


def test_classification(golden_folder):
    for case, g in cases(golden_folder, "eval_classification.npz").items():
        labels, values, defined = g["labels"], g["scores"], g["defined"]
        auc = scores.roc_auc(labels, values)
        np.testing.assert_array_equal(np.isnan(auc), ~defined, err_msg=case)
        got = {
            "auc_per_class": auc[defined],
            "ap_per_class": scores.average_precision(labels, values),
            "auc_macro_defined": scores.macro_roc_auc(labels, values).value,
            "ap_macro_defined": scores.macro_average_precision(labels, values).value,
            "ap_macro_all": scores.average_precision(labels, values).mean(),
            "topk_accuracy_labelled_rows": scores.topk_accuracy_labelled_rows(
                labels, values
            ),
        }
        g["auc_per_class"] = g["auc_per_class"][defined]
        for field in got.keys() & g.keys():
            np.testing.assert_allclose(
                got[field], g[field], **TOLERANCE, err_msg=f"{case}/{field}"
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
        for direction, found in ranks.items():
            expected = g[f"pessimistic/rank_{direction}"]
            np.testing.assert_array_equal(found, expected, err_msg=case)
            for k in (1, 5, 10):
                recall = g[f"pessimistic/{direction}_r{k}"]
                np.testing.assert_allclose(
                    scores.recall_at(found, k), recall, **TOLERANCE, err_msg=case
                )


@pytest.mark.parametrize("rows", [3, 5, 100])
def test_rows_of_the_matrix_do_not_matter(golden_folder, rows):
    for case, g in cases(golden_folder, "eval_retrieval.npz").items():
        similarity, owner = g["similarity"], g["text_to_image"]
        blocks = [
            scores.image_to_text_ranks(similarity[i : i + rows], owner, first_image=i)
            for i in range(0, len(similarity), rows)
        ]
        expected = g["pessimistic/rank_i2t"]
        np.testing.assert_array_equal(np.concatenate(blocks), expected, err_msg=case)
