"""Random views of labelled pictures, in whatever order a classifier takes them.

What a view looks like depends on the seed, the epoch and the record alone: not on the
order, the batch size or the number of processes.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import grain
import numpy as np

from clipin_jax.data.image import views
from clipin_jax.data.image.decode import open_image
from clipin_jax.data.source import BadRecord, Source
from clipin_jax.data.workers import Batch, read_options
from clipin_jax.errors import ClipinError

_THREADS = 2


def label_batches(
    source: Source,
    *,
    order: np.ndarray,
    seed: int,
    epoch: int,
    augment: Mapping[str, Any] | None,
    image_size: tuple[int, int],
    interpolation: str,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Generator[Batch, None, None]:
    """One view of every record that `order` names, the last batch padded.

    Args:
      source: records; their labels are for the caller to read.
      order: [B] int, indices into the source; -1 is a place that is padded.
      seed, epoch: of the views; not negative.
      augment: as in `config.data`, see `views`; None for the view of evaluation.
      image_size: (height, width) of what the model sees.
      interpolation: how pictures are scaled where there is no `augment`.
      batch_size: of the global batch; a multiple of process_count.
      process_index: which part of each global batch to make.
      process_count: how many parts there are.

    Yields:
      {"image": [b, H, W, 3] uint8, "mask": [b] bool, False where padded (black, index
      0), "index": [b] int64}

    Raises:
      ClipinError: a picture that cannot be decoded: no sample is ever left out.
    """
    padded = -(-len(order) // batch_size) * batch_size
    make = _ViewMaker(source, order, (seed, epoch), augment, image_size, interpolation)
    dataset = (
        grain.MapDataset.range(padded)
        .map(make)
        .batch(batch_size // process_count)[process_index::process_count]
        .to_iter_dataset(read_options(_THREADS, _THREADS))
    )
    batches = iter(dataset)
    try:
        yield from batches
    finally:
        batches.close()


class _ViewMaker:
    """Place in the order -> a sample as `label_batches` documents it."""

    def __init__(self, source, order, seeds, augment, size, interpolation):
        self._source, self._order, self._seeds = source, order, seeds
        self._augment, self._size = augment, tuple(size)
        self._interpolation = interpolation

    def __call__(self, place: int) -> dict[str, Any]:
        index = int(self._order[place]) if place < len(self._order) else -1
        if index < 0:
            blank = np.zeros((*self._size, 3), np.uint8)
            return {"image": blank, "mask": False, "index": np.int64(0)}
        try:
            image = open_image(self._source[index]["image"]).pixels()
        except (BadRecord, OSError) as error:
            raise ClipinError(
                f"record {index}, {self._source.describe(index)}, cannot be decoded: "
                f"{error}. Evaluation leaves no sample out: mend or remove the file"
            ) from error
        return {
            "image": self._view(image, index),
            "mask": True,
            "index": np.int64(index),
        }

    def _view(self, image: np.ndarray, index: int) -> np.ndarray:
        if self._augment is None:
            return views.evaluation_view(image, self._size, self._interpolation)
        rng = np.random.default_rng((*self._seeds, index))
        image = views.prepare(image, self._augment)
        height, width = image.shape[:2]
        drawn = views.sample_view(rng, height, width, self._augment)
        how = self._augment["interpolation"]
        return views.apply_view(image, drawn, self._size, how)
