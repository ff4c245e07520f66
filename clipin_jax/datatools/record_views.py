"""Makes training views and captions of a few records, to show them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from clipin_jax.data.image.decode import decode
from clipin_jax.data.pipeline import TrainBatches
from clipin_jax.data.source import Source
from clipin_jax.data.text.tokenizer import Tokenizer, decode_row

_COUNT = 12


class RecordViews(NamedTuple):
    """A record, and the views of it that the model gets.

    Attributes:
      where: origin of the record.
      original: its image, [H, W, 3] uint8.
      captions: of the record.
      views: both views, [h, w, 3] uint8 each.
      view_captions: the caption of each view, decoded from its ids.
    """

    where: str
    original: np.ndarray
    captions: tuple[str, ...]
    views: list[np.ndarray]
    view_captions: list[str]


def make_record_views(
    config: ConfigDict, source: Source, tokenizer: Tokenizer
) -> list[RecordViews] | str:
    """Returns the first records of a run with two views, or why there are none."""
    try:
        return _first_batch(config, source, tokenizer)
    # The data may be faulty; the page shows the rest.
    except Exception as error:
        return f"no samples could be made: {error}"


def _first_batch(
    config: ConfigDict, source: Source, tokenizer: Tokenizer
) -> list[RecordViews]:
    data = config.data.copy_and_resolve_references()
    with data.unlocked():
        data.update(views=2, processes=0, threads=1, prefetch_batches=1)
        data.update(mask_probability=0.0, long_captions="cut")
        data.augment_on = "host"
    size = min(_COUNT, len(source))
    batches = TrainBatches(data, seed=config.seed, batch_size=size)
    try:
        batch = next(batches)
    finally:
        batches.close()

    def views_of(row: int) -> RecordViews:
        index = int(batch["index"][row])
        record = source[index]
        views = [batch[name] for name in ("view1", "view2")]
        return RecordViews(
            where=source.describe(index),
            original=decode(record["image"], data.max_pixels),
            captions=record["captions"],
            views=[np.asarray(view["image"][row]) for view in views],
            view_captions=[decode_row(view["text"][row], tokenizer) for view in views],
        )

    return [views_of(row) for row in range(size)]
