"""`clipin data bench`: times the input, and tells whether the device would wait."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from clipin_jax.data.cpus import available_cpus
from clipin_jax.data.image.decode import open_image
from clipin_jax.data.pipeline import TrainBatches
from clipin_jax.data.samples import SampleMaker
from clipin_jax.data.source import BadRecord, Record, Source, read_record
from clipin_jax.data.text.tokenizer import Tokenizer
from clipin_jax.errors import DONE, ClipinError

_POOL = 64  # records in memory, to time the stages after reading
_POOL_PIXELS = 50_000_000  # bound on the pixels of all of them
_BATCH = 32  # bound on the batch size, so that a measurement is short

Setting = tuple[int, int]  # threads, processes


class Speed(NamedTuple):
    """The speed of the whole pipeline in records per second, with its setting."""

    threads: int
    processes: int
    per_second: float


def bench(
    config: ConfigDict,
    *,
    step_ms: float | None = None,
    seconds: float = 3.0,
    workers: Sequence[int] | None = None,
    as_json: bool = False,
    print_line: Callable[[str], None] = print,
) -> int:
    """Times each stage of the input, then all of it, and compares with the device.

    Args:
      config: any config; only its data, batch size, seed and name are used.
      step_ms: duration of a training step on the device, in milliseconds.
      seconds: duration of each measurement.
      workers: values of `data.processes` to try; 0 and powers of two if None.
      as_json: whether to print all figures as JSON in the last line.
      print_line: prints a line.

    Returns:
      0: slow input is no error.

    Raises:
      ClipinError: the data cannot be read, or an argument is invalid.
    """
    if seconds <= 0 or step_ms is not None and step_ms <= 0:
        raise ClipinError("--seconds and --step-ms must be positive")
    if workers is not None and min(workers, default=0) < 0:
        raise ClipinError(f"--workers is {workers}: give numbers of processes")
    cores = len(available_cpus())
    print_line(
        f"clipin: input of {config.name}, {cores} cores, {seconds:g} s per measurement"
    )
    stages = time_stages(config, seconds)
    print_line(f"  {'one thread':<16}{'ms':>9}{'records/s':>12}")
    for name, rate in stages.items():
        print_line(f"  {name:<16}{1000 / rate:>9.3f}{rate:>12,.0f}")
    print_line(f"  {'whole pipeline':<16}{'':>9}{'records/s':>12}")
    speeds, configured = [], (config.data.threads, config.data.processes)
    for setting in settings(configured, cores, workers):
        speeds.append(time_pipeline(config, setting, seconds))
        print_line(_line(speeds[-1], configured))
    figures = {
        "config": config.name,
        "cores": cores,
        "stages": stages,
        "pipeline": [speed._asdict() for speed in speeds],
        **compare(config, speeds, step_ms),
    }
    print_line(verdict(figures))
    if as_json:
        print_line(json.dumps(figures))
    return DONE


def settings(
    configured: Setting, cores: int, workers: Sequence[int] | None
) -> list[Setting]:
    """Returns the (threads, processes) to time; they include the configured ones."""
    powers = [2**n for n in range(int(math.log2(cores)) + 1)]
    if workers is None:
        workers = [0, *powers]
    threads = [(count, 0) for count in (0, *powers)] if 0 in workers else []
    processes = [(1, count) for count in workers if count]
    return sorted({configured, *threads, *processes}, key=lambda setting: setting[::-1])


def time_stages(config: ConfigDict, seconds: float) -> dict[str, float]:
    """Returns the records per second of each stage by itself, on one thread."""
    data, batches = config.data, _batches(config, (0, 0))
    batches.close()
    source, tokenizer = batches.source, batches.tokenizer
    indices = _indices(len(source), config.seed)
    pool = _pool(source, indices, data.max_pixels)
    images = itertools.cycle([record["image"] for record in pool.records])
    texts = itertools.cycle([text for r in pool.records for text in r["captions"]])
    whole = SampleMaker(source, tokenizer, data, config.seed)
    pooled = SampleMaker(pool, tokenizer, data, config.seed)
    positions = itertools.count()

    def decode(image: Any) -> None:
        open_image(image, data.max_pixels).pixels()

    return {
        "read": _rate(lambda n: _read(source, n), indices, seconds),
        "decode": _rate(decode, images, seconds),
        "tokenize": _rate(_uncached(tokenizer), texts, seconds),
        "views and rest": _rate(
            lambda n: pooled((n, n % len(pool))), positions, seconds
        ),
        "whole sample": _rate(lambda n: whole((n, n)), indices, seconds),
    }


def time_pipeline(config: ConfigDict, setting: Setting, seconds: float) -> Speed:
    """Returns the records per second of `TrainBatches`, once its buffers are empty."""
    threads, processes = setting
    batches = _batches(config, setting)
    prefetch = config.data.prefetch_batches
    buffered = (max(threads, prefetch) + prefetch) * max(1, processes)
    try:
        size = len(next(batches)["index"])
        for _ in range(buffered):
            next(batches)
        rate = _rate(lambda _: next(batches), itertools.count(), seconds)
    finally:
        batches.close()
    return Speed(threads, processes, rate * size)


def _batches(config: ConfigDict, setting: Setting) -> TrainBatches:
    threads, processes = setting
    data = config.data.copy_and_resolve_references()
    with data.unlocked():
        data.update(threads=threads, processes=processes)
    size = min(_BATCH, config.batch_size)
    return TrainBatches(data, seed=config.seed, batch_size=size)


def compare(
    config: ConfigDict, speeds: Sequence[Speed], step_ms: float | None
) -> dict[str, Any]:
    """Returns the records per second that the device needs and the config supplies."""
    configured = (config.data.threads, config.data.processes)
    supplied = next(speed.per_second for speed in speeds if speed[:2] == configured)
    best = max(speeds, key=lambda speed: speed.per_second)
    figures = {
        "batch_size": config.batch_size,
        "has_per_second": supplied,
        "shortest_step_ms": 1000 * config.batch_size / supplied,
        "best": best._asdict(),
    }
    if step_ms is not None:
        needs = config.batch_size / (step_ms / 1000)
        wait = max(0.0, 1 - supplied / needs)
        figures |= dict(step_ms=step_ms, needs_per_second=needs, wait_fraction=wait)
    return figures


def verdict(figures: Mapping[str, Any]) -> str:
    """Returns the result of `compare` in one or two sentences."""
    supplied, best = figures["has_per_second"], figures["best"]
    batch_size = figures["batch_size"]
    better = ""
    if best["per_second"] > 1.1 * supplied:
        better = (
            f". Faster on this machine: data.threads={best['threads']} "
            f"data.processes={best['processes']}, {best['per_second']:,.0f} records/s"
        )
    if "step_ms" not in figures:
        return (
            f"fast enough for batches of {batch_size} in steps of "
            f"{figures['shortest_step_ms']:,.0f} ms or longer{better}"
        )
    needs = figures["needs_per_second"]
    need = (
        f"{batch_size} pairs in {figures['step_ms']:g} ms need {needs:,.0f} records/s"
    )
    if supplied >= needs:
        times = f"{supplied / needs:.1f} times"
        return f"not input-bound: {need}, the input makes {times} that"
    return (
        f"input-bound: {need}, the input makes {supplied:,.0f}: the device would wait "
        f"{figures['wait_fraction']:.0%} of the time{better}"
    )


class _Pool:
    """A source of records in memory, whose images are pixels."""

    classes, fingerprint = (), ""

    def __init__(self, records: list[Record], pixels: list[np.ndarray]):
        self.records, self._pixels = records, pixels

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        return {**self.records[index], "image": self._pixels[index]}

    def annotations(self, index: int) -> Record:
        return self.records[index]

    def describe(self, index: int) -> str:
        return f"record {index}"


def _pool(source: Source, indices: Iterator[int], max_pixels: int) -> _Pool:
    records, images, room = [], [], _POOL_PIXELS
    for index in itertools.islice(indices, 2 * len(source) + _POOL):
        try:
            record = read_record(source, index)
            image = open_image(record["image"], max_pixels).pixels()
        except (BadRecord, OSError):
            continue
        records.append(record)
        images.append(image)
        room -= image.shape[0] * image.shape[1]
        if len(records) == _POOL or room < 0:
            break
    if not records:
        raise ClipinError("none of the records can be used: see `clipin data check`")
    return _Pool(records, images)


def _indices(length: int, seed: int) -> Iterator[int]:
    rng = np.random.default_rng(seed)
    while True:
        yield int(rng.integers(length))


def _read(source: Source, index: int) -> None:
    try:
        read_record(source, index)
    except (BadRecord, OSError):
        pass


def _uncached(tokenizer: Tokenizer) -> Callable[[str], Any]:
    """Returns a function that tokenizes captions without the cache of captions."""
    numbers = itertools.count()
    return lambda text: tokenizer([f"{text} {next(numbers)}"])


def _rate(
    function: Callable[[Any], Any], items: Iterator[Any], seconds: float
) -> float:
    """Returns the calls per second."""
    start = now = time.perf_counter()
    calls = 0
    while now - start < seconds or not calls:
        function(next(items))
        calls += 1
        now = time.perf_counter()
    return calls / (now - start)


def _line(speed: Speed, configured: Setting) -> str:
    setting = f"threads={speed.threads} processes={speed.processes}"
    mark = "  this config" if speed[:2] == configured else ""
    return f"  {setting:<25}{speed.per_second:>12,.0f}{mark}"
