"""Batches of images for evaluation; no record is left out.

`eval_batches` reads a source in order, as published weights were evaluated.
`view_batches` makes views in any order, also random ones, for classifiers that are
trained on frozen features. A random view depends on seed, epoch and record alone: not
on the order, the batch size or the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Any

import grain
import numpy as np

from clipin_jax.data.cpus import available_cpus
from clipin_jax.data.image import make_transforms, views
from clipin_jax.data.image.decode import decode, open_image
from clipin_jax.data.image.transform import Transform
from clipin_jax.data.source import BadRecord, Source, read_image
from clipin_jax.data.workers import Batch, check_share, read_options
from clipin_jax.errors import ClipinError

# Each makes a batch at a time; more would hold many batches in memory.
_THREADS = min(max(len(available_cpus()), 2), 16)

MakeView = Callable[[bytes | np.ndarray, int], np.ndarray]
"""(an encoded image or pixels, index of the record) -> [H, W, 3] uint8."""


def eval_batches(
    source: Source,
    *,
    image_size: tuple[int, int],
    interpolation: str,
    resize: str = views.SHORTEST,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Generator[Batch, None, None]:
    """Yields every image of a source once, in order, the last batch padded.

    Images are decoded and scaled by Pillow; see `views.evaluation_view`.

    Args:
      source: records; their captions are not read.
      image_size: (height, width) of the model's input.
      interpolation: how images are scaled.
      resize: to which shape, see `views.evaluation_view`.
      batch_size: size of the global batch; all processes yield equally often.
      process_index: which part of each global batch to make.
      process_count: number of parts.

    Yields:
      {"image": [b, H, W, 3] uint8, "mask": [b] bool, "index": [b] int64}, with
      b = batch_size / process_count. The mask is False for padding, which is black and
      has index 0.

    Raises:
      ClipinError: values out of range, or an image that cannot be decoded.
    """
    views.check_interpolation(interpolation, "interpolation")
    views.check_resize(resize, "data.resize")
    how = dict(size=image_size, interpolation=interpolation, resize=resize)
    make_view = partial(_evaluation_view, **how)
    yield from _padded_batches(
        source,
        np.arange(len(source)),
        make_view,
        image_size=image_size,
        batch_size=batch_size,
        share=(process_index, process_count),
    )


def view_batches(
    source: Source,
    *,
    order: np.ndarray,
    seed: int,
    epoch: int,
    augment: Mapping[str, Any] | None,
    image_size: tuple[int, int],
    interpolation: str,
    resize: str = views.SHORTEST,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Generator[Batch, None, None]:
    """Yields one view of every record in `order`, the last batch padded.

    Images are decoded as in training.

    Args:
      source: records; their labels are not read.
      order: [n] int, indices of records; -1 is padding.
      seed, epoch: of the random views; not negative.
      augment: `config.data.augment`, see `views`; None for evaluation views.
      image_size: (height, width) of the model's input.
      interpolation, resize: how images are scaled if `augment` is None.
      batch_size: size of the global batch; a multiple of process_count.
      process_index: which part of each global batch to make.
      process_count: number of parts.

    Yields:
      Batches as those of `eval_batches`.

    Raises:
      ClipinError: see `eval_batches`.
    """
    if augment is None:
        how = dict(size=image_size, interpolation=interpolation, resize=resize)
        make_view = partial(_fast_evaluation_view, **how)
    else:
        make_view = partial(
            _random_view,
            seeds=(seed, epoch),
            augment=augment,
            transforms=make_transforms(augment["transforms"]),
            size=image_size,
        )
    yield from _padded_batches(
        source,
        order,
        make_view,
        image_size=image_size,
        batch_size=batch_size,
        share=(process_index, process_count),
    )


def check_first(source: Source) -> None:
    """Decodes the first image, so that unreadable data is an error at once.

    Raises:
      ClipinError: it cannot be decoded.
    """
    _SampleMaker(source, np.zeros(1, int), lambda image, _: decode(image), (1, 1))(0)


def _padded_batches(
    source: Source,
    order: np.ndarray,
    make_view: MakeView,
    *,
    image_size: tuple[int, int],
    batch_size: int,
    share: tuple[int, int],
) -> Generator[Batch, None, None]:
    process_index, process_count = share
    check_share(batch_size, process_index, process_count)
    padded = -(-len(order) // batch_size) * batch_size
    dataset = (
        grain.MapDataset.range(padded)
        .map(_SampleMaker(source, order, make_view, image_size))
        .batch(batch_size // process_count)[process_index::process_count]
        .to_iter_dataset(read_options(_THREADS, _THREADS))
    )
    batches = iter(dataset)
    try:
        yield from batches
    finally:
        batches.close()


class _SampleMaker:
    """Makes the sample at a position of the order, see `eval_batches`."""

    def __init__(
        self,
        source: Source,
        order: np.ndarray,
        make_view: MakeView,
        image_size: tuple[int, int],
    ):
        self._source, self._order, self._make_view = source, order, make_view
        self._blank = np.zeros((*image_size, 3), np.uint8)

    def __call__(self, position: int) -> dict[str, Any]:
        index = int(self._order[position]) if position < len(self._order) else -1
        if index < 0:
            return {"image": self._blank, "mask": False, "index": np.int64(0)}
        try:
            image = self._make_view(read_image(self._source, index), index)
        except (BadRecord, OSError) as error:
            raise ClipinError(
                f"record {index}, {self._source.describe(index)}, cannot be decoded: "
                f"{error}. Evaluation leaves no sample out: repair or remove the file"
            ) from error
        return {"image": image, "mask": True, "index": np.int64(index)}


def _evaluation_view(image: bytes | np.ndarray, _: int, **how: Any) -> np.ndarray:
    return views.evaluation_view(decode(image), **how)


def _fast_evaluation_view(image: bytes | np.ndarray, _: int, **how: Any) -> np.ndarray:
    return views.evaluation_view(open_image(image).pixels(), **how)


def _random_view(
    image: bytes | np.ndarray,
    index: int,
    seeds: tuple[int, int],
    augment: Mapping[str, Any],
    transforms: Sequence[Transform],
    size: tuple[int, int],
) -> np.ndarray:
    pixels = views.prepare(open_image(image).pixels(), augment)
    rng = np.random.default_rng((*seeds, index))
    height, width = pixels.shape[:2]
    parameters = views.sample_view(rng, height, width, augment)
    return views.apply_view(
        pixels, parameters, size, augment["interpolation"], transforms=transforms
    )
