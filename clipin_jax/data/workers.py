"""How grain's threads and worker processes are asked for and what they hand back."""

from __future__ import annotations

import signal
from typing import Any

import grain
import numpy as np
from absl import flags

_SHARED_BYTES = 1 << 16

Batch = dict[str, Any]


def read_options(threads: int, buffer: int) -> grain.ReadOptions:
    """How many samples are under way: none ahead without threads."""
    return grain.ReadOptions(threads, max(threads, buffer) if threads else 0)


def in_workers(
    batches: grain.IterDataset, processes: int, buffer: int
) -> grain.IterDataset:
    """The same batches, made in so many processes; 0: in this one."""
    if not processes:
        return batches
    # Grain reads absl flags when it starts workers; we have none, so nobody parsed.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    # Pictures come through shared memory; for small arrays a file each is too much.
    options = grain.experimental.DatasetOptions(min_shm_size=_SHARED_BYTES)
    batches = grain.experimental.WithOptionsIterDataset(batches, options)
    workers = grain.MultiprocessingOptions(processes, max(1, buffer))
    return batches.mp_prefetch(workers, worker_init_fn=_ignore_interrupt)


def _ignore_interrupt(worker: int, workers: int) -> None:
    # Ctrl-C reaches the workers too; what it means is for the training loop to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def copied(batch: Batch) -> Batch:
    """Copies out of shared memory, which is freed with the array that lives there."""
    return {
        key: copied(value) if isinstance(value, dict) else np.array(value)
        for key, value in batch.items()
    }
