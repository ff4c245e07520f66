"""How close captions are to what people wrote: BLEU, ROUGE-L and CIDEr-D.

The definitions, corners included, are those of the COCO caption evaluation
(arXiv 1504.00325; PyPI `pycocoevalcap`), which gives the same numbers for the same
words. All functions take captions as lists of words, one caption an image, and several
references an image.
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
_ROUGE_BETA = 1.2  # how much recall counts over precision
_CIDER_SIGMA = 6.0  # words by which lengths may differ at little cost


def tokenize(caption: str) -> list[str]:
    """Words of a caption: lower-case, without punctuation, contractions parted.

    What COCO's server does with Stanford's tokenizer in Java, in one pattern: "A man's
    T-shirt, don't!" is a, man, 's, t-shirt, do, n't. Scores differ from the server's
    where captions hold symbols, abbreviations with full stops, or slang that it parts.
    """
    words = []
    for word in _WORD.findall(caption.lower().replace("’", "'")):
        parts = _CONTRACTION.fullmatch(word)
        words += parts.groups() if parts else [word]
    return words


def ngrams(words: Words, order: int) -> Ngrams:
    """How often each run of `order` words occurs."""
    return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))


def bleu(
    captions: Sequence[Words], references: Sequence[Sequence[Words]]
) -> list[float]:
    """BLEU-1 to BLEU-4 of all captions together (Papineni et al. 2002).

    The reference length is the closest one, the shorter of two. Raises ValueError
    without captions.
    """
    _check(captions, references)
    right, said = np.zeros(_ORDER), np.zeros(_ORDER)
    length = closest = 0
    for words, others in zip(captions, references, strict=True):
        length += len(words)
        closest += min((abs(len(r) - len(words)), len(r)) for r in others)[1]
        for n in range(_ORDER):
            found = ngrams(words, n + 1)
            most: Ngrams = Counter()
            for reference in others:
                most |= ngrams(reference, n + 1)
            right[n] += (found & most).total()
            said[n] += found.total()
    brevity = math.exp(min(0.0, 1 - closest / length)) if length else 0.0
    precision = np.divide(right, said, out=np.zeros(_ORDER), where=said > 0)
    with np.errstate(divide="ignore"):
        mean = np.cumsum(np.log(precision)) / np.arange(1, _ORDER + 1)
    return [float(x) for x in brevity * np.exp(mean)]


def rouge_l(
    captions: Sequence[Words], references: Sequence[Sequence[Words]]
) -> np.ndarray:
    """ROUGE-L of each caption (Lin 2004): [B], from the longest common subsequence.

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
    """CIDEr-D of each caption (arXiv 1411.5726, eq. 4 and 5): [B], 10 at most.

    N-grams weigh the more the fewer images have them in their references: of a single
    image nothing is rare, and the score is 0. Raises ValueError without captions.
    """
    _check(captions, references)
    images: Ngrams = Counter()
    for others in references:
        images.update(
            {gram for r in others for n in _orders() for gram in ngrams(r, n)}
        )
    scores = np.zeros(len(captions))
    for i, (words, others) in enumerate(zip(captions, references, strict=True)):
        said = _weighted(words, images, len(captions))
        for reference in others:
            wanted = _weighted(reference, images, len(captions))
            gap = max(len(words) - 1, 0) - max(len(reference) - 1, 0)
            closeness = math.exp(-(gap**2) / (2 * _CIDER_SIGMA**2))
            cosines = [
                _clipped_cosine(*pair) for pair in zip(said, wanted, strict=True)
            ]
            scores[i] += 10 * closeness * float(np.mean(cosines)) / len(others)
    return scores


def _orders() -> range:
    return range(1, _ORDER + 1)


def _weighted(
    words: Words, images: Ngrams, count: int
) -> list[dict[tuple[str, ...], float]]:
    """Per order, each n-gram's count times the log of how rare it is."""
    return [
        {
            gram: number * (math.log(count) - math.log(max(images[gram], 1)))
            for gram, number in ngrams(words, n).items()
        }
        for n in _orders()
    ]


def _clipped_cosine(said: dict, wanted: dict) -> float:
    """Their cosine, where saying something too often wins nothing."""
    product = sum(min(x, wanted[g]) * wanted[g] for g, x in said.items() if g in wanted)
    squares = (sum(x * x for x in vector.values()) for vector in (said, wanted))
    norm = math.prod(map(math.sqrt, squares))
    return product / norm if norm else 0.0


def _check(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> None:
    if not captions or len(captions) != len(references) or not all(references):
        raise ValueError(
            f"{len(captions)} captions and {len(references)} sets of references: each "
            "caption takes a set, each set at least one reference"
        )
