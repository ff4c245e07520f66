"""Caption scores against the COCO caption evaluation, on the same words."""

import numpy as np

from clipin_jax.evaluators.metrics.caption_scores import bleu, cider_d, rouge_l
from tests.parity.golden_files import load_json


def test_pycocoevalcap(golden_folder):
    cases = load_json(golden_folder, "caption_scores.json")["cases"]
    assert cases
    for case in cases.values():
        check(case)


def check(case):
    captions = [caption.split() for caption in case["captions"]]
    references = [[r.split() for r in others] for others in case["references"]]
    # The reference adds 1e-9 to every denominator of BLEU.
    np.testing.assert_allclose(bleu(captions, references), case["bleu"], rtol=1e-7)
    rouge = rouge_l(captions, references)
    np.testing.assert_allclose(rouge, case["rouge_l"], rtol=1e-12, atol=1e-15)
    cider = cider_d(captions, references)
    np.testing.assert_allclose(cider, case["cider_d"], rtol=1e-12, atol=1e-14)
