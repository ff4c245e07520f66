"""Times the input per core: our views against the same views made with Pillow.

    python bench/data.py                # a few minutes
    python bench/data.py --quick        # within a minute on two cores

Each JPEG gives two views of 224 pixels, with the recipe of the released CLIPin: scale
to 224 pixels, crop 0.8 to 1 of the area, flip half of the time, and jitter the
brightness by 0.1. The inputs take turns, with one worker each:

  host        all of `SampleMaker`: decode, squash, views, captions, token ids
  device      the same with `data.augment_on = "device"`: no views, one canvas
  pillow      the release's torchvision transforms, with Pillow and numpy: decode, and
              for each view resize, crop, flip, jitter, normalize, all bicubic
  open_clip   the same for one view of open_clip: a crop of 0.9 to 1 of the area
  floor       the library's scaled decode, a lower bound of its time

The photographs are generated: random fields from coarse to fine, shapes with edges, and
noise, encoded by Pillow with quality 90 in about 100 KB. The number of bytes determines
the time of any decoder; photographs of COCO have more (`--noise 20`: 160 KB).

Figures are medians over rounds, and ratios are medians of the ratios of rounds. On one
core they measure processor time, which other work on the machine hardly affects. On two
cores they measure wall time, for the library with two threads, for Pillow with two
processes, as in PyTorch's loader. The last line is one JSON object.
"""

import argparse
import dataclasses
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np

from clipin_jax.config import load_config
from clipin_jax.data.image import views
from clipin_jax.data.image.decode import open_image
from clipin_jax.data.samples import SampleMaker
from clipin_jax.data.text import caption_tokenizer

# isort: split
from photographs import Photographs
from pillow_views import OpenClipView, ReleasedViews, released_view

SIDE = 224
QUICK_SECONDS = 45  # of --quick; no round starts that would end later
LIBRARY, PILLOW = ("host", "device"), ("pillow", "open_clip")


@dataclasses.dataclass
class TimedInput:
    """An input with its times.

    Attributes:
      make: returns the sample of a photograph, by its number.
      seconds, cpu_seconds: of one worker for one photograph, one per round.
    """

    make: Callable[[int], Any]
    seconds: list[float] = dataclasses.field(default_factory=list)
    cpu_seconds: list[float] = dataclasses.field(default_factory=list)

    def run(self, count: int) -> None:
        """Makes all photographs once, in one worker."""
        seconds, cpu = timed(self.make, count)
        self.seconds.append(seconds / count)
        self.cpu_seconds.append(cpu / count)


def timed(make: Callable[[int], Any], count: int) -> tuple[float, float]:
    start, cpu = time.perf_counter(), time.thread_time()
    for number in range(count):
        make(number)
    return time.perf_counter() - start, time.thread_time() - cpu


class Stages:
    """The stages of the library's input, each on the output of the previous one."""

    def __init__(self, source: Photographs, data: Any):
        self._augment = data.augment.to_dict()
        self._tokenizer = caption_tokenizer(data)
        self._files = source.files
        self._texts = [source.annotations(n)["captions"][0] for n in range(len(source))]
        self._pixels = [self.decode(n) for n in range(len(source))]
        self._canvases = [self.squash(n) for n in range(len(source))]
        rng = np.random.default_rng(0)
        self.drawn = [
            [views.sample_view(rng, SIDE, SIDE, self._augment) for _ in range(2)]
            for _ in range(len(source))
        ]

    def decode(self, number: int) -> np.ndarray:
        """Decodes as `SampleMaker` does, no larger than the squash needs."""
        image = open_image(self._files[number])
        return image.pixels(min(1.0, SIDE / min(image.height, image.width)))

    def squash(self, number: int) -> np.ndarray:
        return views.prepare(self._pixels[number], self._augment)

    def make_views(self, number: int) -> list[np.ndarray]:
        canvas = self._canvases[number]
        return [views.apply_view(canvas, v, (SIDE, SIDE)) for v in self.drawn[number]]

    def tokens(self, number: int) -> None:
        for _ in range(2):
            self._tokenizer([self._texts[number]])


def make_inputs(source: Photographs) -> tuple[dict[str, TimedInput], Stages]:
    data = load_config("clipin_coco:data=unused").data.copy_and_resolve_references()
    tokenizer = caption_tokenizer(data)

    def library_input(where: str) -> Callable[[int], Any]:
        with data.unlocked():
            data.augment_on = where
        maker = SampleMaker(source, tokenizer, data, 0)
        return lambda number: maker((number, number))

    stages = Stages(source, data)
    makes = {
        **{where: library_input(where) for where in LIBRARY},
        "pillow": ReleasedViews(source.files),
        "open_clip": OpenClipView(source.files),
        "floor": stages.decode,
        "squash": stages.squash,
        "views": stages.make_views,
        "tokens": stages.tokens,
    }
    return {name: TimedInput(make) for name, make in makes.items()}, stages


def take_turns(turns: list[Callable[[], None]], rounds: int, deadline: float) -> int:
    """Calls each in every round, in reverse order in every other round.

    deadline: time by `perf_counter`; no round starts that would end later.

    Returns:
      The number of rounds.
    """
    for number in range(rounds):
        start = time.perf_counter()
        for turn in turns:
            turn()
        turns.reverse()
        now = time.perf_counter()
        if now + (now - start) > deadline:
            return number + 1
    return rounds


def use_cores(count: int) -> None:
    """Keeps this thread, and those that it starts, on the first `count` cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(_CORES)[:count]))


_CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}
_worker: dict[str, Callable[[int], Any]] = {}


def start_worker(files: list[bytes]) -> None:
    """Prepares a worker process of Pillow."""
    _worker.update(pillow=ReleasedViews(files), open_clip=OpenClipView(files))


def work(name: str, count: int) -> None:
    timed(_worker[name], count)


def measure_two(
    source: Photographs, inputs: dict[str, TimedInput], rounds: int, deadline: float
) -> dict[str, list[float]]:
    """Returns the seconds per photograph of each of two cores, by round."""
    use_cores(2)
    count, seconds = len(source), {name: [] for name in (*LIBRARY, *PILLOW)}
    processes = ProcessPoolExecutor(
        2, get_context("spawn"), start_worker, (source.files,)
    )

    def turn(pool: Executor, name: str, *task: Any) -> Callable[[], None]:
        def both() -> None:
            start = time.perf_counter()
            for done in [pool.submit(*task, count) for _ in range(2)]:
                done.result()
            # Two cores make twice as many photographs.
            seconds[name].append((time.perf_counter() - start) / count)

        return both

    with processes, ThreadPoolExecutor(2) as threads:
        turns = [turn(threads, name, timed, inputs[name].make) for name in LIBRARY]
        turns += [turn(processes, name, work, name) for name in PILLOW]
        take_turns(turns, 1, deadline)  # not counted: the workers start
        seconds.update({name: [] for name in seconds})
        take_turns(turns, rounds, deadline)
    return seconds


def pixel_difference(source: Photographs, stages: Stages) -> float:
    """Returns the mean absolute difference from Pillow's views, of 255 levels."""
    differences = []
    for number in range(min(len(source), 32)):
        for view, drawn in zip(
            stages.make_views(number), stages.drawn[number], strict=True
        ):
            pillow = released_view(source.files[number], drawn)
            differences.append(np.abs(view.astype(int) - pillow).mean())
    return round(statistics.mean(differences), 2)


def speedup(base: list[float], seconds: list[float]) -> float:
    """Returns the median over the rounds of the speed relative to the base."""
    return round(statistics.median(map(float.__truediv__, base, seconds)), 2)


def ratios(seconds: dict[str, list[float]]) -> dict[str, float]:
    names = [name for name in ("host", "device", "floor") if name in seconds]
    return {
        f"{name}_over_{base}": speedup(seconds[base], seconds[name])
        for base in PILLOW
        for name in names
    }


def per_second(seconds: dict[str, list[float]]) -> dict[str, float]:
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {name: round(1 / median, 1) for name, median in medians.items()}


def print_table(cpu: dict[str, list[float]], clock: dict[str, list[float]]) -> None:
    print(
        f"{'one core':12}{'cpu ms':>9}{'clock ms':>10}{'images/s':>10}{'x pillow':>10}"
    )
    for name, seconds in cpu.items():
        middle, wall = statistics.median(seconds), statistics.median(clock[name])
        print(
            f"{name:12}{1000 * middle:9.3f}{1000 * wall:10.3f}{1 / middle:10.1f}"
            f"{speedup(cpu['pillow'], seconds):10.2f}"
        )
    parts = {name: statistics.median(cpu[name]) for name in cpu if name not in PILLOW}
    whole = parts["host"]
    shares = {
        name: parts[name] / whole for name in ("floor", "squash", "views", "tokens")
    }
    shares["rest"] = 1 - sum(shares.values())
    listed = ", ".join(f"{name} {100 * share:.0f}%" for name, share in shares.items())
    print(f"time of host by stage: {listed}")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="fewer photographs and rounds")
    add("--images", type=int, help="how many photographs; default: 128, quick 32")
    add("--rounds", type=int, default=15, help="default: %(default)s")
    add("--noise", type=float, default=8, help="of 255 levels (default: %(default)s)")
    add("--height", type=int, default=480, help="of photographs (default: %(default)s)")
    add("--width", type=int, default=640, help="of photographs (default: %(default)s)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    started, args = time.perf_counter(), parse_args(argv)
    source = Photographs(
        args.images or (32 if args.quick else 128), args.height, args.width, args.noise
    )
    inputs, stages = make_inputs(source)
    kilobytes = round(statistics.mean(map(len, source.files)) / 1000)
    print(f"{len(source)} photographs of {args.width} x {args.height}, {kilobytes} KB")

    def until(share: float) -> float:
        return started + share * QUICK_SECONDS if args.quick else float("inf")

    use_cores(1)
    try:
        count = min(len(source), 8)
        for timed_input in inputs.values():
            timed(timed_input.make, count)  # not counted
        turns = [lambda c=c: c.run(len(source)) for c in inputs.values()]
        rounds = take_turns(turns, args.rounds, until(0.6))
        cpu = {name: c.cpu_seconds for name, c in inputs.items()}
        print_table(cpu, {name: c.seconds for name, c in inputs.items()})
        two = (
            measure_two(source, inputs, args.rounds, until(1))
            if len(_CORES) > 1
            else {}
        )
    finally:
        use_cores(len(_CORES))
    result: dict[str, Any] = ratios(cpu) | {"images_per_second": per_second(cpu)}
    if two:
        print("two cores, each:", *(f"{k} {v}/s" for k, v in per_second(two).items()))
        result["two_cores"] = ratios(two) | {"images_per_second": per_second(two)}
    result |= {
        "rounds": rounds,
        "jpeg_kilobytes": kilobytes,
        "levels_from_pillow": pixel_difference(source, stages),
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
