"""Training batches from a source, in one chain:

    order of the epochs -> this process's share -> decode, two views, captions -> tokens
          -> batch -> prefetch

All randomness of a sample is a function of the seed and of its global position, the
number of samples before it in the run. So the global batches do not depend on how many
processes, workers or threads make them, and a run resumes from a position.
"""

from __future__ import annotations

import errno
from pathlib import Path

import grain
import numpy as np
from ml_collections import ConfigDict

from clipin_jax.data import make_source
from clipin_jax.data.bad_records import BadRecordLog, exceeds
from clipin_jax.data.image.views import check_augment, check_on_device, check_resize
from clipin_jax.data.order import endless_order
from clipin_jax.data.samples import SampleMaker
from clipin_jax.data.source import mixture_parts, why_unusable
from clipin_jax.data.text import caption_tokenizer
from clipin_jax.data.text.captions import check_weights
from clipin_jax.data.text.masking import check_masking
from clipin_jax.data.workers import (
    Batch,
    check_share,
    copy_batch,
    in_workers,
    read_options,
)
from clipin_jax.errors import ClipinError, RetryableError, check_choice

_MOST_WORKERS = 1024  # more start for minutes, and no host has the cores


class TrainBatches:
    """One process's share of the global training batches, in an endless iterator.

    It yields host arrays, with b = batch_size / process_count:
      {"view1": {"image": [b, H, W, 3] uint8, "text": [b, L] int32,
                 "image_id": [b] int32, "text_id": [b] int32},
       "view2": the same, when `data.views` is 2,
       "index": [b] int64, the index of each sample's record in the source}
    Ids are hashes, not negative, equal for equal files and for equal captions.

    With `data.mask_probability` each view also has the result of `mask_tokens`:
      "masked_text": [b, L] int32, "masked_labels": [b, L] int32.
    With `data.augment_on="device"` no view has "image"; `device_views.make_views` makes
    it from "drawn": [b, 11] float32 in each view and from
      "canvas": [b, S, S, 3] uint8, S is `data.augment.resize_first`.

    An epoch has every record once, see `order`. If an epoch ends within a batch, the
    next one fills it, so that no record is left out.

    Args:
      data: `config.data`.
      seed: of order, views, captions and masks; not negative.
      batch_size: size of the global batch.
      process_index: which share of each global batch to make.
      process_count: number of shares.
      bad_records: a file of JSON lines that lists each unusable record once; None for
        no file.

    Attributes:
      source: of the records.
      tokenizer: of the captions.
      examples_per_epoch: number of records of the source.
      bad_records: number of unusable records of this share since the iterator started
        or was set back; each is replaced by a good one.
      cut_captions: the share of the last batch's captions that were cut at
        `data.context_length`.

    Raises:
      ClipinError: values out of range; a batch larger than the data, or not divisible
        by process_count; no pair among the first thousand records. While iterating:
        the share of bad records is above `data.max_bad_fraction`, or no record can be
        read; a caption is too long and `data.long_captions` is "error".
      RetryableError: a worker process died.
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
        check_share(batch_size, process_index, process_count)
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
        self._problem: Exception | None = None  # of the bad record that was listed last
        self._start(0)

    def _start(self, position: int) -> None:
        """Starts at a global position."""
        self._position = position
        self.bad_records = self._read = 0
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
        self.cut_captions = float(np.mean(batch.pop("cut_share")))
        self._count_bad(batch.pop("bad"), read_any=bool(np.all(batch["index"] >= 0)))
        return batch

    def _next_batch(self) -> Batch:
        if not self._data.processes:
            return next(self._batches)
        try:
            return copy_batch(next(self._batches))
        except RuntimeError as error:
            raise RetryableError(
                f"a data worker process died ({error}), perhaps for lack of memory: "
                "lower data.processes, data.prefetch_batches or batch_size"
            ) from error

    def _count_bad(self, bad: np.ndarray, read_any: bool) -> None:
        """Counts and lists the bad records of a batch; raises if there are too many.

        Args:
          bad: [b] int, index of each sample's bad record, -1 if there is none.
          read_any: whether a good record replaced every bad one.
        """
        indices = bad[bad >= 0].tolist()
        self._read += len(bad)
        self.bad_records += len(indices)
        if not indices:
            return
        for index in indices:
            self._list_bad(index)
        too_many = exceeds(
            self._data.max_bad_fraction,
            bad=self.bad_records,
            read=self._read,
            total=self.examples_per_epoch,
        )
        if too_many or not read_any:
            example = self._log.entry
            what = (
                f"{self.bad_records} of {self._read} records cannot be used, more than "
                f"data.max_bad_fraction {self._data.max_bad_fraction} allows"
                if too_many
                else "no good record was found to replace a bad one"
            )
            raise ClipinError(
                f"{what}. One of them: record {example['index']}, {example['where']}: "
                f"{example['reason']}. Repair or remove such records, or raise the "
                "limit"
            ) from self._problem

    def _list_bad(self, index: int) -> None:
        if index not in self._log:
            passed = OSError(errno.EAGAIN, "it can be read by now")
            self._problem = self._samples.find_problem(index) or passed
            where = self.source.describe(index)
            self._log.add(index, where, why_unusable(self._problem))

    def get_state(self) -> dict[str, int | str]:
        """Returns the position of the run: JSON-able, the same in every process."""
        return {
            "position": self._position,
            "fingerprint": self.source.fingerprint,
            "seed": self._seed,
            "batch_size": self._batch_size,
        }

    def set_state(self, state: dict[str, int | str]) -> None:
        """Moves to the position of `get_state`; the batches from there are bit-equal.

        Raises:
          ClipinError: the state is of other data (unless `data.allow_change`), another
            seed or batch size.
        """
        may_differ = {"position"}
        if self._data.allow_change:
            may_differ.add("fingerprint")
        for key, value in self.get_state().items():
            if key not in may_differ and state[key] != value:
                raise ClipinError(
                    f"the saved data position belongs to another {key}: "
                    f"{state[key]!r}, now {value!r}; resume with the data and the "
                    "config of the run, start a new one, or allow changed data by "
                    "data.allow_change=True"
                )
        self.close()
        self._start(int(state["position"]))

    def close(self) -> None:
        """Stops the iterator, with its threads and worker processes."""
        self._batches.close()


def _with_position(position: int, index: int) -> tuple[int, int]:
    return position, index


def _check(data: ConfigDict, seed: int) -> None:
    check_augment(data.augment)
    # A run from before has no such key.
    check_resize(data.get("resize", "shortest"), "data.resize")
    check_weights(data.caption_weights)
    if not 0 <= data.max_bad_fraction <= 1:
        raise ClipinError(
            f"data.max_bad_fraction is {data.max_bad_fraction}; it must be from 0 to 1"
        )
    check_choice("data.views", data.views, (1, 2))
    check_choice("data.second_text", data.second_text, ("same", "another"))
    check_choice("data.augment_on", data.augment_on, ("host", "device"))
    for key in ("threads", "processes", "prefetch_batches", "shuffle_block"):
        if data[key] < 0:
            raise ClipinError(f"data.{key} is {data[key]}; it must not be negative")
    for key in ("threads", "processes"):
        if data[key] > _MOST_WORKERS:
            raise ClipinError(
                f"data.{key} is {data[key]}; it must be at most {_MOST_WORKERS}"
            )
    if data.max_pixels < 1:
        raise ClipinError(f"data.max_pixels is {data.max_pixels}; it must be positive")
    if seed < 0:
        raise ClipinError(f"seed is {seed}; it must not be negative")
    if data.augment_on == "device":
        check_on_device(data.augment)
