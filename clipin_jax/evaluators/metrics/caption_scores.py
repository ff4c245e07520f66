"""BLEU, ROUGE-L and CIDEr-D of captions against references.

All definitions, and their edge cases, are those of the COCO caption evaluation
(arXiv 1504.00325; PyPI `pycocoevalcap`), which gives the same numbers for the same
words. The functions take captions as lists of words: one caption and several references
for each image.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

Words = Sequence[str]
Ngrams = Counter[tuple[str, ...]]

# Letters and digits, joined by hyphens, apostrophes, and full stops in numbers.
_WORD = re.compile(r"\d+(?:[.,:]\d+)+|[^\W_]+(?:[-'’][^\W_]+)*")
_CONTRACTION = re.compile(r"(.+?)(n't|'s|'re|'ve|'ll|'d|'m)")
_ORDER = 4  # the longest n-grams of BLEU and CIDEr-D
_ROUGE_BETA = 1.2  # weight of recall relative to precision
_CIDER_SIGMA = 6.0  # width of the penalty on differences in length, in words


def tokenize(caption: str) -> list[str]:
    """Splits a caption into words: lower-case, no punctuation, contractions in two.

    "A man's T-shirt, don't!" is a, man, 's, t-shirt, do, n't, as with Stanford's
    tokenizer, which COCO's server uses. Scores differ from the server's if captions
    have symbols, abbreviations with full stops, or slang that it splits.
    """
    words = []
    for word in _WORD.findall(caption.lower().replace("’", "'")):
        parts = _CONTRACTION.fullmatch(word)
        words += parts.groups() if parts else [word]
    return words


def ngrams(words: Words, order: int) -> Ngrams:
    """Counts the n-grams of `order` words."""
    return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))


def bleu(
    captions: Sequence[Words], references: Sequence[Sequence[Words]]
) -> list[float]:
    """Returns BLEU-1 to BLEU-4 of all captions together (Papineni et al. 2002).

    The reference length is the closest one; of two equally close ones, the shorter.
    Raises ValueError without captions.
    """
    _check(captions, references)
    matched, total = np.zeros(_ORDER), np.zeros(_ORDER)
    length = closest = 0
    for words, others in zip(captions, references, strict=True):
        length += len(words)
        closest += min((abs(len(r) - len(words)), len(r)) for r in others)[1]
        for n in range(_ORDER):
            counts = ngrams(words, n + 1)
            reference_counts: Ngrams = Counter()
            for reference in others:
                reference_counts |= ngrams(reference, n + 1)
            matched[n] += (counts & reference_counts).total()
            total[n] += counts.total()
    brevity = math.exp(min(0.0, 1 - closest / length)) if length else 0.0
    precision = np.divide(matched, total, out=np.zeros(_ORDER), where=total > 0)
    with np.errstate(divide="ignore"):
        mean = np.cumsum(np.log(precision)) / np.arange(1, _ORDER + 1)
    return [float(x) for x in brevity * np.exp(mean)]


def rouge_l(
    captions: Sequence[Words], references: Sequence[Sequence[Words]]
) -> np.ndarray:
    """Returns ROUGE-L of each caption (Lin 2004), by longest common subsequence: [B].

    Precision and recall are each the best over the references. Raises ValueError
    without captions.
    """
    _check(captions, references)
    scores = np.zeros(len(captions))
    for i, (words, others) in enumerate(zip(captions, references, strict=True)):
        common = [_common_subsequence(words, r) for r in others]
        precision = max(common) / max(len(words), 1)
        recall = max(c / max(len(r), 1) for c, r in zip(common, others, strict=True))
        if precision and recall:
            beta = _ROUGE_BETA**2
            scores[i] = (1 + beta) * precision * recall / (recall + beta * precision)
    return scores


def _common_subsequence(a: Words, b: Words) -> int:
    lengths = [0] * (len(b) + 1)
    for word in a:
        corner = 0
        for j, other in enumerate(b):
            kept = lengths[j + 1]
            lengths[j + 1] = corner + 1 if word == other else max(kept, lengths[j])
            corner = kept
    return lengths[-1]


def cider_d(
    captions: Sequence[Words], references: Sequence[Sequence[Words]]
) -> np.ndarray:
    """Returns CIDEr-D of each caption (arXiv 1411.5726, eq. 4 and 5): [B], at most 10.

    N-grams in the references of fewer images weigh more. With a single image all
    weights are 0, and so is the score. Raises ValueError without captions.
    """
    _check(captions, references)
    images: Ngrams = Counter()
    for others in references:
        images.update(
            {gram for r in others for n in _orders() for gram in ngrams(r, n)}
        )
    scores = np.zeros(len(captions))
    for i, (words, others) in enumerate(zip(captions, references, strict=True)):
        vectors = _weighted(words, images, len(captions))
        for reference in others:
            reference_vectors = _weighted(reference, images, len(captions))
            gap = max(len(words) - 1, 0) - max(len(reference) - 1, 0)
            closeness = math.exp(-(gap**2) / (2 * _CIDER_SIGMA**2))
            cosines = [
                _clipped_cosine(*pair)
                for pair in zip(vectors, reference_vectors, strict=True)
            ]
            scores[i] += 10 * closeness * float(np.mean(cosines)) / len(others)
    return scores


def _orders() -> range:
    return range(1, _ORDER + 1)


def _weighted(
    words: Words, images: Ngrams, count: int
) -> list[dict[tuple[str, ...], float]]:
    """Returns for each order: n-gram to count times log inverse document frequency."""
    return [
        {
            gram: number * (math.log(count) - math.log(max(images[gram], 1)))
            for gram, number in ngrams(words, n).items()
        }
        for n in _orders()
    ]


def _clipped_cosine(vector: dict, reference: dict) -> float:
    """Returns the cosine, with n-grams counted no more often than in the reference."""
    product = sum(
        min(x, reference[gram]) * reference[gram]
        for gram, x in vector.items()
        if gram in reference
    )
    squares = (sum(x * x for x in values.values()) for values in (vector, reference))
    norm = math.prod(map(math.sqrt, squares))
    return product / norm if norm else 0.0


def _check(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> None:
    if not captions or len(captions) != len(references) or not all(references):
        raise ValueError(
            f"{len(captions)} captions and {len(references)} sets of references: each "
            "caption takes a set, each set at least one reference"
        )
