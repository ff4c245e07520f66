"""`clipin data bench`: how fast is the input, and would the device wait for it?"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from clipin_jax.data.image.decode import open_image
from clipin_jax.data.pipeline import TrainBatches
from clipin_jax.data.samples import SampleMaker
from clipin_jax.data.source import BadRecord, Record, Source
from clipin_jax.data.text.tokenizer import Tokenizer
from clipin_jax.datatools.threads import count_cores
from clipin_jax.errors import DONE, ClipinError

_POOL = 64  # records that are kept in memory to time what follows the reading
_POOL_PIXELS = 50_000_000  # of all of them, at most
_BATCH = 32  # at most; small ones, so that a figure needs little time


class Speed(NamedTuple):
    """What a setting of the whole pipeline makes."""

    threads: int
    processes: int
    per_second: float


def bench(
    config: ConfigDict,
    step_ms: float | None = None,
    seconds: float = 3.0,
    workers: Sequence[int] | None = None,
    as_json: bool = False,
    say: Callable[[str], None] = print,
) -> int:
    """Times each stage of the input, then all of it, and compares with the device.

    Args:
      config: any config; nothing but its data, batch size, seed and name counts.
      step_ms: what a training step takes on the device, in milliseconds.
      seconds: for how long each figure is measured.
      workers: values of `data.processes` to try; None for 0 and powers of two.
      as_json: whether the last line is all figures as JSON.
      say: where the lines go.

    Returns:
      0: there is nothing wrong with being slow.

    Raises:
      ClipinError: the data cannot be read, or an argument makes no sense.
    """
    if seconds <= 0 or step_ms is not None and step_ms <= 0:
        raise ClipinError("--seconds and --step-ms must be positive")
    if workers is not None and min(workers, default=0) < 0:
        raise ClipinError(f"--workers is {workers}; numbers of processes are wanted")
    cores = count_cores()
    say(f"clipin: the input of {config.name}, {cores} cores, {seconds:g} s a figure")
    stages = time_stages(config, seconds)
    say(f"  {'one thread':<16}{'ms':>9}{'records/s':>12}")
    for name, rate in stages.items():
        say(f"  {name:<16}{1000 / rate:>9.3f}{rate:>12,.0f}")
    say(f"  {'all of it':<16}{'':>9}{'records/s':>12}")
    speeds, own = [], (config.data.threads, config.data.processes)
    for setting in settings(own, cores, workers):
        speeds.append(time_pipeline(config, *setting, seconds))
        say(_line(speeds[-1], own))
    found = {
        "config": config.name,
        "cores": cores,
        "stages": stages,
        "pipeline": [speed._asdict() for speed in speeds],
        **compare(config, speeds, step_ms),
    }
    say(verdict(found))
    if as_json:
        say(json.dumps(found))
    return DONE


def settings(
    own: tuple[int, int], cores: int, workers: Sequence[int] | None
) -> list[tuple[int, int]]:
    """Which (threads, processes) are timed: always those of the config."""
    powers = [2**n for n in range(int(math.log2(cores)) + 1)]
    if workers is None:
        workers = [0, *powers]
    threads = [(count, 0) for count in (0, *powers)] if 0 in workers else []
    processes = [(1, count) for count in workers if count]
    return sorted({own, *threads, *processes}, key=lambda one: one[::-1])


def time_stages(config: ConfigDict, seconds: float) -> dict[str, float]:
    """Records a second of each stage, on one thread and without waiting for others."""
    data, batches = config.data, _batches(config, threads=0, processes=0)
    batches.close()
    source, tokenizer = batches.source, batches.tokenizer
    indices = _indices(len(source), config.seed)
    pool = _pool(source, indices, data.max_pixels)
    pictures = itertools.cycle([record["image"] for record in pool.records])
    texts = itertools.cycle([text for r in pool.records for text in r["captions"]])
    whole = SampleMaker(source, tokenizer, data, config.seed)
    shown = SampleMaker(pool, tokenizer, data, config.seed)
    places = itertools.count()

    def decode(image: Any) -> None:
        open_image(image, data.max_pixels).pixels()

    rates = {
        "read": _rate(lambda n: _try(source, n), indices, seconds),
        "decode": _rate(decode, pictures, seconds),
        "tokenize": _rate(_fresh(tokenizer), texts, seconds),
        "views and rest": _rate(lambda n: shown((n, n % len(pool))), places, seconds),
        "whole sample": _rate(lambda n: whole((n, n)), indices, seconds),
    }
    return rates


def time_pipeline(
    config: ConfigDict, threads: int, processes: int, seconds: float
) -> Speed:
    """Records a second of `TrainBatches`, once its buffers are drained."""
    batches = _batches(config, threads, processes)
    prefetch = config.data.prefetch_batches
    ahead = (max(threads, prefetch) + prefetch) * max(1, processes)
    try:
        size = len(next(batches)["index"])
        for _ in range(ahead):
            next(batches)
        rate = _rate(lambda _: next(batches), itertools.count(), seconds)
    finally:
        batches.close()
    return Speed(threads, processes, rate * size)


def _batches(config: ConfigDict, threads: int, processes: int) -> TrainBatches:
    data = config.data.copy_and_resolve_references()
    with data.unlocked():
        data.update(threads=threads, processes=processes)
    size = min(_BATCH, config.batch_size)
    return TrainBatches(data, seed=config.seed, batch_size=size)


def compare(
    config: ConfigDict, speeds: Sequence[Speed], step_ms: float | None
) -> dict[str, Any]:
    """What the device needs beside what the config's setting makes."""
    own = (config.data.threads, config.data.processes)
    has = next(speed.per_second for speed in speeds if speed[:2] == own)
    best = max(speeds, key=lambda speed: speed.per_second)
    found = {
        "batch_size": config.batch_size,
        "has_per_second": has,
        "shortest_step_ms": 1000 * config.batch_size / has,
        "best": best._asdict(),
    }
    if step_ms is not None:
        needs = config.batch_size / (step_ms / 1000)
        wait = max(0.0, 1 - has / needs)
        found |= dict(step_ms=step_ms, needs_per_second=needs, wait_fraction=wait)
    return found


def verdict(found: dict[str, Any]) -> str:
    """The comparison in a sentence or two."""
    has, batch, best = found["has_per_second"], found["batch_size"], found["best"]
    better = ""
    if best["per_second"] > 1.1 * has:
        better = (
            f". Faster here: data.threads={best['threads']} "
            f"data.processes={best['processes']}, {best['per_second']:,.0f} records/s"
        )
    if "step_ms" not in found:
        return (
            f"feeds batches of {batch} to steps of {found['shortest_step_ms']:,.0f} ms "
            f"or longer{better}"
        )
    needs = found["needs_per_second"]
    asked = f"{batch} pairs in {found['step_ms']:g} ms need {needs:,.0f} records/s"
    if has >= needs:
        return f"not input-bound: {asked}, {has / needs:.1f} times that is made"
    return (
        f"input-bound: {asked}, {has:,.0f} are made: the device would wait "
        f"{found['wait_fraction']:.0%} of the time{better}"
    )


class _Pool:
    """Records in memory as a source of pixels."""

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
    records, pixels, room = [], [], _POOL_PIXELS
    for index in itertools.islice(indices, 2 * len(source) + _POOL):
        try:
            record = source[index]
            image = open_image(record["image"], max_pixels).pixels()
        except (BadRecord, OSError):
            continue
        records.append(record)
        pixels.append(image)
        room -= image.shape[0] * image.shape[1]
        if len(records) == _POOL or room < 0:
            break
    if not records:
        raise ClipinError("not one record can be used: see `clipin data check`")
    return _Pool(records, pixels)


def _indices(length: int, seed: int) -> Iterator[int]:
    rng = np.random.default_rng(seed)
    while True:
        yield int(rng.integers(length))


def _try(source: Source, index: int) -> None:
    try:
        source[index]
    except (BadRecord, OSError):
        pass


def _fresh(tokenizer: Tokenizer) -> Callable[[str], Any]:
    """Tokenizes each caption as if it had not been met before; words are remembered."""
    numbers = itertools.count()
    return lambda text: tokenizer([f"{text} {next(numbers)}"])


def _rate(
    function: Callable[[Any], Any], items: Iterator[Any], seconds: float
) -> float:
    """Calls a second."""
    start = now = time.perf_counter()
    calls = 0
    while now - start < seconds or not calls:
        function(next(items))
        calls += 1
        now = time.perf_counter()
    return calls / (now - start)


def _line(speed: Speed, own: tuple[int, int]) -> str:
    setting = f"threads={speed.threads} processes={speed.processes}"
    mark = "  this config" if speed[:2] == own else ""
    return f"  {setting:<25}{speed.per_second:>12,.0f}{mark}"
