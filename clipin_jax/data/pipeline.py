"""A source to batches: one chain, read top to bottom.

    order of the epochs -> this process's share -> decode, two views, captions -> tokens
          -> batch -> prefetch

Everything random about a sample is a function of the seed and of its global position
(how many examples came before it in the whole run). So the global batches do not depend
on how many processes, workers or threads make them, and a position is all there is to
resume from.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import grain
import numpy as np
from ml_collections import ConfigDict

from clipin_jax.data import make_source
from clipin_jax.data.bad_records import BadRecordLog
from clipin_jax.data.image.views import (
    check_augment,
    check_interpolation,
    check_on_device,
)
from clipin_jax.data.order import endless_order
from clipin_jax.data.samples import EvalSampleMaker, SampleMaker
from clipin_jax.data.source import Source, mixture_parts
from clipin_jax.data.text import caption_tokenizer
from clipin_jax.data.text.captions import check_weights
from clipin_jax.data.text.masking import check_masking
from clipin_jax.data.workers import Batch, copied, in_workers, read_options
from clipin_jax.errors import ClipinError, check_choice

_TOLERATED = 100  # records seen before the share of bad ones is judged
_EVAL_THREADS = 2


class TrainBatches:
    """One process's share of the global training batches, without end.

    Iterating gives host arrays, b = batch_size / process_count:
      {"view1": {"image": [b, H, W, 3] uint8, "text": [b, L] int32,
                 "image_id": [b] int32, "text_id": [b] int32},
       "view2": the same, when `data.views` is 2,
       "index": [b] int64, where in the source each sample comes from}
    Ids are hashes, not negative: equal for equal files and for equal captions.

    In each view, when `data.mask_probability` is not 0, what `mask_tokens` returns:
      "masked_text": [b, L] int32, "masked_labels": [b, L] int32.
    When `data.augment_on` is "device", no view has "image"; `augment.make_views` makes
    it from "drawn": [b, 11] float32 in each view and from
      "canvas": [b, S, S, 3] uint8, with S `data.augment.resize_first`.

    An epoch is every record once, see `order`. Epochs follow one another without a gap:
    where one ends within a batch, the next one begins there, and nothing is left out.

    Args:
      data: `config.data`.
      seed: of order and of views; not negative.
      batch_size: of the global batch.
      process_index: which share of each global batch to make.
      process_count: how many shares there are.
      bad_records: a file of JSON lines to which each unusable record is added, once;
        None for no file.

    Attributes:
      source: where the records come from.
      tokenizer: how captions become ids.
      examples_per_epoch: how many records the source has.
      bad_records: how many records of this share were of no use since the iterator was
        made or set back; each was replaced by the next good one.
      cut_captions: the share of the last batch's captions that lost their end, being
        longer than `data.context_length`.

    Raises:
      ClipinError: values that make no sense, a batch larger than the data or not
        divisible by process_count, not one pair among the first thousand records;
        while iterating, when more than `data.max_bad_fraction` of at least 100 records
        were of no use, or when a caption is too long and `data.long_captions` is
        "error".
    """

    def __init__(
        self,
        data: ConfigDict,
        *,
        seed: int,
        batch_size: int,
        process_index: int = 0,
        process_count: int = 1,
        bad_records: Path | None = None,
    ):
        _check(data, seed)
        _check_share(batch_size, process_index, process_count)
        self.source = make_source(**data.source)
        self.tokenizer = caption_tokenizer(data)
        check_masking(data.mask_probability, self.tokenizer)
        self.examples_per_epoch = len(self.source)
        if self.examples_per_epoch < batch_size:
            raise ClipinError(
                f"batch_size is {batch_size}, but the training data has only "
                f"{len(self.source)} records; take a smaller batch or more data"
            )
        self._data, self._seed, self._batch_size = data, seed, batch_size
        self._share = process_index, process_count
        self._samples = SampleMaker(self.source, self.tokenizer, data, seed)
        self._order = endless_order(
            mixture_parts(self.source),
            seed=seed,
            shuffle=data.shuffle,
            block=data.shuffle_block,
        )
        self._samples.check_some(self._order[n] for n in range(self.examples_per_epoch))
        self._log = BadRecordLog(bad_records)
        self._start(0)

    def _start(self, position: int) -> None:
        """Begins (again) at a global position."""
        self._position = position
        self.bad_records = self._seen = 0
        self.cut_captions = 0.0
        self._batches = iter(self._chain(position))

    def _chain(self, position: int) -> grain.IterDataset:
        data, (first, step) = self._data, self._share
        return (
            self._order.map_with_index(_with_position)
            .slice(slice(position + first, None, step))
            .map(self._samples)
            .batch(self._batch_size // step)
            .to_iter_dataset(read_options(data.threads, data.prefetch_batches))
            .pipe(in_workers, data.processes, data.prefetch_batches)
        )

    def __iter__(self) -> TrainBatches:
        return self

    def __next__(self) -> Batch:
        batch = self._next_batch()
        self._position += self._batch_size
        self.cut_captions = float(np.mean(batch.pop("cut")))
        self._judge(batch["index"], batch.pop("bad"), batch.pop("bad_index"))
        return batch

    def _next_batch(self) -> Batch:
        if not self._data.processes:
            return next(self._batches)
        try:
            return copied(next(self._batches))
        except RuntimeError as error:
            raise ClipinError(
                f"a data worker ended before its time ({error}); memory may be short: "
                "lower data.processes, data.prefetch_batches or batch_size"
            ) from error

    def _judge(self, index, bad, bad_index) -> None:
        """Counts records that were of no use; raises when they are too many."""
        found = index >= 0
        self._seen += int(np.sum(bad) + np.sum(found))
        self.bad_records += int(np.sum(bad))
        if not np.any(bad):
            return
        for wanted, count in zip(bad_index[bad > 0], bad[bad > 0], strict=True):
            for each in range(int(wanted), int(wanted + count)):
                self._note(each % len(self.source))
        many = self.bad_records > self._data.max_bad_fraction * self._seen
        if many and self._seen >= _TOLERATED or not np.all(found):
            example = self._log.entry
            raise ClipinError(
                f"{self.bad_records} of {self._seen} records are of no use, more than "
                f"data.max_bad_fraction {self._data.max_bad_fraction} allows. One of "
                f"them: record {example['index']}, {example['where']}: "
                f"{example['reason']}. Mend or remove such records, or raise the limit"
            )

    def _note(self, index: int) -> None:
        if index not in self._log:
            reason = self._samples.why_bad(index) or "it is readable by now"
            self._log.add(index, self.source.describe(index), reason)

    def get_state(self) -> dict[str, int | str]:
        """Where the run is: JSON-able, the same in every process."""
        return {
            "position": self._position,
            "fingerprint": self.source.fingerprint,
            "seed": self._seed,
            "batch_size": self._batch_size,
        }

    def set_state(self, state: dict[str, int | str]) -> None:
        """Goes to where `get_state` was called: what follows is bit-equal.

        Raises:
          ClipinError: the state is of other data (unless `data.allow_change`), another
            seed or batch size.
        """
        free = {"position"} | ({"fingerprint"} if self._data.allow_change else set())
        for key, value in self.get_state().items():
            if key not in free and state[key] != value:
                raise ClipinError(
                    f"the saved data position belongs to another {key}: "
                    f"{state[key]!r}, now {value!r}; resume with the data and the "
                    "config of the run, start a new one, or go on with changed data "
                    "by data.allow_change=True"
                )
        self.close()
        self._start(int(state["position"]))

    def close(self) -> None:
        """Stops threads and workers; the iterator cannot go on afterwards."""
        self._batches.close()


def _with_position(position: int, index: int) -> tuple[int, int]:
    return position, index


def _check(data: ConfigDict, seed: int) -> None:
    check_augment(data.augment)
    check_weights(data.caption_weights)
    check_choice("data.views", data.views, (1, 2))
    check_choice("data.second_text", data.second_text, ("same", "another"))
    check_choice("data.augment_on", data.augment_on, ("host", "device"))
    for key in ("threads", "processes", "prefetch_batches", "shuffle_block"):
        if data[key] < 0:
            raise ClipinError(f"data.{key} is {data[key]}; it must not be negative")
    if data.max_pixels < 1:
        raise ClipinError(f"data.max_pixels is {data.max_pixels}; it must be positive")
    if seed < 0:
        raise ClipinError(f"seed is {seed}; it must not be negative")
    if data.augment_on == "device":
        check_on_device(data.augment)


def _check_share(batch_size: int, process_index: int, process_count: int) -> None:
    if batch_size < 1:
        raise ClipinError(f"batch_size is {batch_size}; it must be at least 1")
    if not 0 <= process_index < process_count:
        raise ClipinError(f"no process {process_index} among {process_count}")
    if batch_size % process_count:
        raise ClipinError(
            f"batch_size is {batch_size}, which {process_count} processes cannot "
            "share equally; take a multiple of the number of processes"
        )


def eval_batches(
    source: Source,
    *,
    image_size: tuple[int, int],
    interpolation: str,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Generator[Batch, None, None]:
    """Every picture of the source once, in order, the last batch padded.

    Args:
      source: records; their captions are for the caller to read.
      image_size: (height, width) of what the model sees.
      interpolation: how pictures are scaled.
      batch_size: of the global batch; all processes yield equally often.
      process_index: which part of each global batch to make.
      process_count: how many parts there are.

    Yields:
      {"image": [b, H, W, 3] uint8, "mask": [b] bool, False where padded (black, index
      0), "index": [b] int64}

    Raises:
      ClipinError: a picture that cannot be decoded: no sample is ever left out.
    """
    _check_share(batch_size, process_index, process_count)
    check_interpolation(interpolation, "interpolation")
    part = batch_size // process_count
    padded = -(-len(source) // batch_size) * batch_size
    dataset = (
        grain.MapDataset.range(padded)
        .map(EvalSampleMaker(source, image_size, interpolation))
        .batch(part)[process_index::process_count]
        .to_iter_dataset(read_options(_EVAL_THREADS, _EVAL_THREADS))
    )
    batches = iter(dataset)
    try:
        yield from batches
    finally:
        batches.close()
