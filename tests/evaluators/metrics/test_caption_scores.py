import numpy as np
import pytest

from clipin_jax.evaluators.metrics.caption_scores import (
    bleu,
    cider_d,
    rouge_l,
    tokenize,
)

REFERENCES = [
    ["a red boat on the lake".split(), "the boat is on a lake".split()],
    ["two dogs run in the park".split(), "dogs that play in a park".split()],
]


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A man's T-shirt, don't!", "a man 's t-shirt do n't"),
        ("Two (2) cats; 3.5 dogs.", "two 2 cats 3.5 dogs"),
        ("They’re here -- we've seen 'em", "they 're here we 've seen em"),
        ("éclair, café_bar", "éclair café bar"),
        ("  ...  ", ""),
    ],
)
def test_captions_are_split_into_words(caption, words):
    assert tokenize(caption) == words.split()


def test_a_caption_equal_to_its_reference_is_perfect():
    captions = [others[0] for others in REFERENCES]
    np.testing.assert_allclose(bleu(captions, REFERENCES), 1)
    np.testing.assert_allclose(rouge_l(captions, REFERENCES), 1)
    alone = [others[:1] for others in REFERENCES]
    np.testing.assert_allclose(cider_d(captions, alone), 10)


def test_captions_without_common_words_score_zero():
    captions = ["zebra".split(), []]
    assert bleu(captions, REFERENCES) == [0, 0, 0, 0]
    assert not rouge_l(captions, REFERENCES).any()
    assert not cider_d(captions, REFERENCES).any()


def test_words_of_all_images_score_zero_in_cider():
    captions = [["the"], ["the"]]
    assert rouge_l(captions, REFERENCES).all()
    assert not cider_d(captions, REFERENCES).any()


def test_order_does_not_matter():
    captions = ["a boat on a lake".split(), "a dog in the park".split()]
    scores = cider_d(captions, REFERENCES), rouge_l(captions, REFERENCES)
    turned = [others[::-1] for others in REFERENCES[::-1]]
    again = cider_d(captions[::-1], turned), rouge_l(captions[::-1], turned)
    np.testing.assert_allclose(again, np.array(scores)[:, ::-1])
    np.testing.assert_allclose(bleu(captions[::-1], turned), bleu(captions, REFERENCES))


@pytest.mark.parametrize("score", [bleu, rouge_l, cider_d])
@pytest.mark.parametrize("references", [[], [[["a"]], [["b"]]], [[]]])
def test_wrong_input(score, references):
    with pytest.raises(ValueError, match="each set at least one reference"):
        score([["a"]] if references else [], references)
