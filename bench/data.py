"""Images per second and core: our input against the same views made with Pillow.

    python bench/data.py                # a few minutes
    python bench/data.py --quick        # within a minute on two cores

Two views of 224 pixels of each JPEG, with the recipe of the released CLIPin: bring it
to 224 pixels, crop 0.8 to 1 of the area, mirror it half of the time, and jitter the
brightness by 0.1. The contenders take turns, one worker each:

  host        `SampleMaker`, all of it: decode, squash, views, captions, token ids
  device      the same with `data.augment_on = "device"`: no views, one canvas
  pillow      what torchvision does for the release, with Pillow and numpy: decode, and
              for each view resize, crop, mirror, jitter, normalise, all bicubic
  open_clip   the same for one view of open_clip: a crop of 0.9 to 1 of the area
  floor       the scaled decode alone, as ours makes it: nothing of ours can be faster

The photographs are made up: random fields from coarse to fine, shapes with edges, and
noise, stored by Pillow with quality 90 in about 100 KB. How many bytes there are
decides how long any decoder takes; those of COCO have more (`--noise 20`: 160 KB).

Figures are medians over rounds, and every ratio is the median of the rounds' own.
Those on one core are of processor time, which other work on the machine hardly moves;
those on two are of the clock, ours with two threads, Pillow with two processes, as
PyTorch's loader has them. The last line is one JSON object.
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
QUICK_SECONDS = 45  # after which --quick starts no further round
OURS, PILLOW = ("host", "device"), ("pillow", "open_clip")


@dataclasses.dataclass
class Contender:
    """What is timed: `make` takes the number of a photograph.

    seconds, cpu_seconds: of one photograph, a figure a round; of one worker.
    """

    make: Callable[[int], Any]
    seconds: list[float] = dataclasses.field(default_factory=list)
    cpu_seconds: list[float] = dataclasses.field(default_factory=list)

    def run(self, count: int) -> None:
        """All photographs once, by one worker."""
        seconds, cpu = timed(self.make, count)
        self.seconds.append(seconds / count)
        self.cpu_seconds.append(cpu / count)


def timed(make: Callable[[int], Any], count: int) -> tuple[float, float]:
    start, cpu = time.perf_counter(), time.thread_time()
    for number in range(count):
        make(number)
    return time.perf_counter() - start, time.thread_time() - cpu


class Stages:
    """The parts of our path, each on what the one before it has made."""

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
        """As `SampleMaker` does: no more of the picture than the squash needs."""
        picture = open_image(self._files[number])
        return picture.pixels(min(1.0, SIDE / min(picture.height, picture.width)))

    def squash(self, number: int) -> np.ndarray:
        return views.prepare(self._pixels[number], self._augment)

    def look(self, number: int) -> list[np.ndarray]:
        canvas = self._canvases[number]
        return [views.apply_view(canvas, v, (SIDE, SIDE)) for v in self.drawn[number]]

    def tokens(self, number: int) -> None:
        for _ in range(2):
            self._tokenizer([self._texts[number]])


def make_contenders(source: Photographs) -> tuple[dict[str, Contender], Stages]:
    data = load_config("clipin_coco:data=unused").data.copy_and_resolve_references()
    tokenizer = caption_tokenizer(data)

    def ours(where: str) -> Callable[[int], Any]:
        with data.unlocked():
            data.augment_on = where
        maker = SampleMaker(source, tokenizer, data, 0)
        return lambda number: maker((number, number))

    stages = Stages(source, data)
    makes = {
        **{where: ours(where) for where in OURS},
        "pillow": ReleasedViews(source.files),
        "open_clip": OpenClipView(source.files),
        "floor": stages.decode,
        "squash": stages.squash,
        "views": stages.look,
        "tokens": stages.tokens,
    }
    return {name: Contender(make) for name, make in makes.items()}, stages


def take_turns(turns: list[Callable[[], None]], rounds: int, deadline: float) -> int:
    """Rounds in which each has its turn, every other one backwards; how many."""
    for number in range(rounds):
        start = time.perf_counter()
        for turn in turns:
            turn()
        turns.reverse()
        now = time.perf_counter()
        if now + (now - start) > deadline:
            return number + 1
    return rounds


def on_cores(count: int) -> None:
    """Keeps this thread, and those that it starts, on so many cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(_CORES)[:count]))


_CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}
_worker: dict[str, Callable[[int], Any]] = {}


def start_worker(files: list[bytes]) -> None:
    """What a process of Pillow's has of its own."""
    _worker.update(pillow=ReleasedViews(files), open_clip=OpenClipView(files))


def work(name: str, count: int) -> None:
    timed(_worker[name], count)


def measure_two(
    source: Photographs, contenders: dict[str, Contender], rounds: int, deadline: float
) -> dict[str, list[float]]:
    """Seconds of the clock that a photograph takes of one of two cores, by round."""
    on_cores(2)
    count, found = len(source), {name: [] for name in (*OURS, *PILLOW)}
    processes = ProcessPoolExecutor(
        2, get_context("spawn"), start_worker, (source.files,)
    )

    def turn(pool: Executor, name: str, *task: Any) -> Callable[[], None]:
        def both() -> None:
            start = time.perf_counter()
            for done in [pool.submit(*task, count) for _ in range(2)]:
                done.result()
            # Two cores have made twice as many.
            found[name].append((time.perf_counter() - start) / count)

        return both

    with processes, ThreadPoolExecutor(2) as threads:
        turns = [turn(threads, name, timed, contenders[name].make) for name in OURS]
        turns += [turn(processes, name, work, name) for name in PILLOW]
        take_turns(turns, 1, deadline)  # not counted: the workers start
        found.update({name: [] for name in found})
        take_turns(turns, rounds, deadline)
    return found


def pixel_difference(source: Photographs, stages: Stages) -> float:
    """Mean absolute difference from Pillow's views of the same draws, of 255 levels."""
    differences = []
    for number in range(min(len(source), 32)):
        for ours, drawn in zip(stages.look(number), stages.drawn[number], strict=True):
            pillow = released_view(source.files[number], drawn)
            differences.append(np.abs(ours.astype(int) - pillow).mean())
    return round(statistics.mean(differences), 2)


def over(base: list[float], own: list[float]) -> float:
    """How many times as fast as the base: the median of the rounds' ratios."""
    return round(statistics.median(map(float.__truediv__, base, own)), 2)


def ratios(found: dict[str, list[float]]) -> dict[str, float]:
    own = [name for name in ("host", "device", "floor") if name in found]
    pairs = [(name, base) for base in PILLOW for name in own]
    return {
        f"{name}_over_{base}": over(found[base], found[name]) for name, base in pairs
    }


def per_second(found: dict[str, list[float]]) -> dict[str, float]:
    return {name: round(1 / statistics.median(found[name]), 1) for name in found}


def print_table(cpu: dict[str, list[float]], clock: dict[str, list[float]]) -> None:
    print(
        f"{'one core':12}{'cpu ms':>9}{'clock ms':>10}{'images/s':>10}{'x pillow':>10}"
    )
    for name, seconds in cpu.items():
        middle, wall = statistics.median(seconds), statistics.median(clock[name])
        print(
            f"{name:12}{1000 * middle:9.3f}{1000 * wall:10.3f}{1 / middle:10.1f}"
            f"{over(cpu['pillow'], seconds):10.2f}"
        )
    parts = {name: statistics.median(cpu[name]) for name in cpu if name not in PILLOW}
    whole = parts["host"]
    shares = {
        name: parts[name] / whole for name in ("floor", "squash", "views", "tokens")
    }
    shares["rest"] = 1 - sum(shares.values())
    said = ", ".join(f"{name} {100 * share:.0f}%" for name, share in shares.items())
    print(f"where host's time goes: {said}")


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
    contenders, stages = make_contenders(source)
    kilobytes = round(statistics.mean(map(len, source.files)) / 1000)
    print(f"{len(source)} photographs of {args.width} x {args.height}, {kilobytes} KB")

    def until(share: float) -> float:
        return started + share * QUICK_SECONDS if args.quick else float("inf")

    on_cores(1)
    try:
        count = min(len(source), 8)
        for contender in contenders.values():
            timed(contender.make, count)  # not counted
        turns = [lambda c=c: c.run(len(source)) for c in contenders.values()]
        rounds = take_turns(turns, args.rounds, until(0.6))
        cpu = {name: c.cpu_seconds for name, c in contenders.items()}
        print_table(cpu, {name: c.seconds for name, c in contenders.items()})
        two = (
            measure_two(source, contenders, args.rounds, until(1))
            if len(_CORES) > 1
            else {}
        )
    finally:
        on_cores(len(_CORES))
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
