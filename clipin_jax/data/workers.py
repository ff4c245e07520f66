"""Threads, worker processes and shares of a batch in grain."""

from __future__ import annotations

import signal
from typing import Any

import grain
import numpy as np
from absl import flags

from clipin_jax.errors import ClipinError

_SHARED_BYTES = 1 << 16  # arrays of at least this size pass through shared memory

Batch = dict[str, Any]


def check_share(batch_size: int, process_index: int, process_count: int) -> None:
    """Checks which share of the global batch a process makes.

    Raises:
      ClipinError: no such share, or shares that are not equal.
    """
    if batch_size < 1:
        raise ClipinError(f"batch_size is {batch_size}; it must be at least 1")
    if not 0 <= process_index < process_count:
        raise ClipinError(f"no process {process_index} among {process_count}")
    if batch_size % process_count:
        raise ClipinError(
            f"batch_size is {batch_size}, which {process_count} processes cannot "
            "share equally; take a multiple of the number of processes"
        )


def read_options(threads: int, buffer: int) -> grain.ReadOptions:
    """Returns options that make samples ahead; without threads none are."""
    return grain.ReadOptions(threads, max(threads, buffer) if threads else 0)


def in_workers(
    batches: grain.IterDataset, processes: int, buffer: int
) -> grain.IterDataset:
    """Returns the same batches, made in worker processes; 0: in this process."""
    if not processes:
        return batches
    # Grain reads absl flags when it starts workers, and fails if they are not parsed.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    # Small arrays are sent directly, since each shared array needs a file.
    options = grain.experimental.DatasetOptions(min_shm_size=_SHARED_BYTES)
    batches = grain.experimental.WithOptionsIterDataset(batches, options)
    workers = grain.MultiprocessingOptions(processes, max(1, buffer))
    return batches.mp_prefetch(workers, worker_init_fn=_ignore_interrupt)


def _ignore_interrupt(worker: int, workers: int) -> None:
    # Ctrl-C reaches the workers too, but only the training loop handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def copy_batch(batch: Batch) -> Batch:
    """Copies out of shared memory, which is freed with the array in it."""
    return {
        key: copy_batch(value) if isinstance(value, dict) else np.array(value)
        for key, value in batch.items()
    }
