"""Caption scores against the COCO caption evaluation, on the same words."""

import json

import numpy as np
import pytest

from clipin_jax.evaluators.metrics.caption_scores import bleu, cider_d, rouge_l

CASES = ("five_references", "one_reference", "mixed")


@pytest.fixture(scope="module")
def golden(golden_folder):
    return json.loads((golden_folder / "caption_scores.json").read_text())["cases"]


@pytest.mark.parametrize("name", CASES)
def test_pycocoevalcap(golden, name):
    case = golden[name]
    captions = [caption.split() for caption in case["captions"]]
    references = [[r.split() for r in others] for others in case["references"]]
    # The reference adds 1e-9 to every denominator of BLEU.
    np.testing.assert_allclose(bleu(captions, references), case["bleu"], rtol=1e-7)
    rouge = rouge_l(captions, references)
    np.testing.assert_allclose(rouge, case["rouge_l"], rtol=1e-12, atol=1e-15)
    cider = cider_d(captions, references)
    np.testing.assert_allclose(cider, case["cider_d"], rtol=1e-12, atol=1e-14)
