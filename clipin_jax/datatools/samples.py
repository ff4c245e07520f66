"""A few records beside the views and captions that training makes of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from clipin_jax.data.image.decode import decode
from clipin_jax.data.pipeline import TrainBatches
from clipin_jax.data.source import Source
from clipin_jax.data.text.tokenizer import Tokenizer

COUNT = 12


class Sample(NamedTuple):
    """A record, and what the model sees of it.

    original, views: [H, W, 3] uint8; texts: of each view, back from its ids;
    captions: all that the record has.
    """

    where: str
    original: np.ndarray
    captions: tuple[str, ...]
    views: list[np.ndarray]
    texts: list[str]


def make_samples(
    config: ConfigDict, source: Source, tokenizer: Tokenizer
) -> list[Sample] | str:
    """The first samples of a run with two views, or why there are none."""
    try:
        return _make(config, source, tokenizer)
    # The page is about data that may be at fault, and shows what it can.
    except Exception as error:
        return f"no samples could be made: {error}"


def _make(config: ConfigDict, source: Source, tokenizer: Tokenizer) -> list[Sample]:
    data = config.data.copy_and_resolve_references()
    with data.unlocked():
        data.update(views=2, processes=0, threads=1, prefetch_batches=1)
        data.update(mask_probability=0.0, long_captions="cut")
        data.augment_on = "host"
    size = min(COUNT, len(source))
    batches = TrainBatches(data, seed=config.seed, batch_size=size)
    try:
        batch = next(batches)
    finally:
        batches.close()
    return [
        _sample(batch, row, source, tokenizer, data.max_pixels) for row in range(size)
    ]


def _sample(
    batch: Any, row: int, source: Source, tokenizer: Tokenizer, max_pixels: int
) -> Sample:
    index = int(batch["index"][row])
    record = source[index]
    views = [batch[name] for name in ("view1", "view2")]
    return Sample(
        source.describe(index),
        decode(record["image"], max_pixels),
        record["captions"],
        [np.asarray(view["image"][row]) for view in views],
        [_text(view["text"][row], tokenizer) for view in views],
    )


def _text(row: np.ndarray, tokenizer: Tokenizer) -> str:
    """The text of a row of ids, without its marks and its padding."""
    begin = int(row[0] == tokenizer.start)  # not every vocabulary has a start mark
    ids = row[begin : begin + int(np.argmax(row[begin:] == tokenizer.end))]
    return tokenizer.decode(ids).strip()
