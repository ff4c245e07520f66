"""Token masking: replaces tokens of a caption, and returns the labels there.

Devlin et al. 2019, "BERT", arXiv 1810.04805, section 3.1; as in ALBEF (Li et al. 2021,
arXiv 2107.07651), section 3.2, the end mark may be masked, the start mark may not.
"""

from __future__ import annotations

import numpy as np

from clipin_jax.data.text.tokenizer import Tokenizer
from clipin_jax.errors import ClipinError

NOT_PREDICTED = -100  # label of a token that is not predicted
_MASKED, _KEPT = 0.8, 0.1  # shares of predicted tokens; the rest get a random id


def check_masking(probability: float, tokenizer: Tokenizer) -> None:
    """Checks `data.mask_probability`. Raises ClipinError."""
    if not 0 <= probability <= 1:
        raise ClipinError(
            f"data.mask_probability is {probability}; it must be a probability"
        )
    if probability and tokenizer.mask_id is None:
        raise ClipinError(
            f"data.mask_probability is {probability}, but the tokenizer has no id for "
            "masked tokens: set it to 0, or data.tokenizer.name to wordpiece"
        )


def mask_tokens(
    ids: np.ndarray,
    rng: np.random.Generator,
    *,
    probability: float,
    mask_id: int,
    vocab_size: int,
    never_masked: tuple[int, ...],
) -> dict[str, np.ndarray]:
    """Masks tokens of a caption at random.

    Of the predicted tokens, 80 % are replaced by `mask_id`, 10 % by an id that is
    uniform in [0, vocab_size), and 10 % are kept.

    Args:
      ids: [L] int32, the row of a tokenizer.
      rng: advanced by the same number of draws for each row of L.
      probability: with which each token is predicted.
      mask_id: id of a masked token.
      vocab_size: V.
      never_masked: ids of the padding and the start mark, which are not replaced.

    Returns:
      {"masked_text": [L] int32, "masked_labels": [L] int32}. Labels are the original
      ids of predicted tokens, and -100 elsewhere.
    """
    chosen, how = rng.random((2, len(ids)))
    others = rng.integers(vocab_size, size=len(ids))
    predicted = (chosen < probability) & ~np.isin(ids, never_masked)
    masked = np.where(how < _MASKED, mask_id, others)
    masked = np.where(predicted & (how < 1 - _KEPT), masked, ids)
    labels = np.where(predicted, ids, NOT_PREDICTED)
    return {
        "masked_text": masked.astype(np.int32),
        "masked_labels": labels.astype(np.int32),
    }
