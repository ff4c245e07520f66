"""Times `clipin embed`, and `load` until the first embedding.

    python bench/embed.py                             # the model of the quickstart
    python bench/embed.py clip:runlocal,variant=B/16 --images 64 --batch-size 16
    python bench/embed.py --quick

A run folder with initial weights is written for the config, and JPEGs of 640 x 480.
Three things take turns, after each has been compiled:

  tower    the jitted image tower, fed with pixels from memory
  decode   the batches of evaluation alone: files to pixels of the model's size
  embed    `embed_source`, which reads, decodes, encodes and writes the file

Where decode and tower have processors of their own, as with a GPU, the slower of both
bounds `embed`. On a CPU they share its cores: the bound is the time of both, one after
the other. CPU seconds are those of all cores; other work on the machine changes them
less than seconds. Ratios are medians over rounds.

`load` is timed in fresh processes, from `import clipin_jax` to the embedding of one
file. The first fills an empty compile cache; the others read it, and the best counts.
The last line is one JSON object.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from clipin_jax.config import load_config
from clipin_jax.core import sharding
from clipin_jax.data import make_source
from clipin_jax.data.evaluation_batches import eval_batches
from clipin_jax.embeddings.embed import embed_source
from clipin_jax.inference.model import Model, load
from clipin_jax.runs.build import build_experiment
from clipin_jax.runs.checkpoint import Checkpoints
from clipin_jax.runs.folder import open_folder

# isort: split
from photographs import Photographs

DISTINCT = 32  # photographs; the files repeat them
NOISE = 8  # of the photographs, which sets their bytes
LOADS = 4  # fresh processes
FIRST_EMBEDDING = """
import resource, sys, time
start = time.perf_counter()
import clipin_jax
clipin_jax.load(sys.argv[1]).encode_image(sys.argv[2])
seconds = time.perf_counter() - start
usage = resource.getrusage(resource.RUSAGE_SELF)
print(seconds, usage.ru_utime + usage.ru_stime)
"""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", default="quickstart")
    parser.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one short round")
    args = parser.parse_args(argv)
    if args.quick:
        args.images, args.rounds = 2 * args.batch_size, 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_run(load_config(args.config, args.overrides), folder / "run")
        write_photographs(folder / "photos", args.images)
        result = {"config": args.config, "images": args.images}
        result |= time_embedding(folder, args.batch_size, args.rounds)
        result |= time_loads(folder, 2 if args.quick else LOADS)
    print(json.dumps(result))


def write_run(config: Any, folder: Path) -> None:
    """Writes the folder of a run as training leaves it, with the initial state."""
    open_folder(config, folder)
    with contextlib.closing(Checkpoints(folder / "checkpoints")) as checkpoints:
        state = build_experiment(config).init_state()
        checkpoints.save(1, state, {}, force=True)


def write_photographs(folder: Path, count: int) -> None:
    folder.mkdir()
    photographs = Photographs(min(DISTINCT, count), 480, 640, NOISE)
    for number in range(count):
        image = photographs.files[number % len(photographs)]
        (folder / f"{number:06}.jpg").write_bytes(image)
        (folder / f"{number:06}.txt").write_text(f"photograph {number}")


def time_embedding(folder: Path, batch_size: int, rounds: int) -> dict[str, float]:
    model = load(folder / "run", batch_size=batch_size)
    arguments = dict(
        name="caption_files", folder=str(folder / "photos"), captions="txt"
    )
    source = make_source(**arguments)
    output = folder / "out.npy"

    def embed() -> None:
        output.unlink(missing_ok=True)
        embed_source(model, arguments, output)

    tower = make_tower(model, len(source))
    timed: dict[str, Callable[[], Any]] = {
        "tower": tower,
        "decode": lambda: read_all(model, source),
        "embed": embed,
    }
    for call in timed.values():
        call()  # compiles, and warms the cache of the disk
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, call in timed.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            call()
            seconds[name].append(time.perf_counter() - start)
            cpu_seconds[name].append(time.process_time() - cpu_start)
    return summary(seconds, cpu_seconds, len(source))


def make_tower(model: Model, count: int) -> Callable[[], None]:
    """Returns a function that runs the image tower on pixels from memory."""
    encoder, variables = model._encoder, model._state.variables
    size = model._size(count)
    shape = (size, *encoder.image_size, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    program = jax.jit(encoder.functions.image)

    def run() -> None:
        outputs = None
        for _ in range(-(-count // size)):
            batch = sharding.put(pixels, encoder.mesh)
            outputs, previous = program(variables, batch), outputs
            jax.device_get(previous)
        jax.device_get(outputs)

    return run


def read_all(model: Model, source: Any) -> None:
    encoder = model._encoder
    batches = eval_batches(
        source,
        image_size=encoder.image_size,
        interpolation=encoder.interpolation,
        batch_size=model._size(len(source)),
    )
    for _ in batches:
        pass


def summary(
    seconds: dict[str, list[float]], cpu_seconds: dict[str, list[float]], count: int
) -> dict[str, float]:
    result = {
        f"{name}_images_per_second": count / statistics.median(values)
        for name, values in seconds.items()
    }
    rounds = list(zip(*seconds.values(), strict=True))
    cpu_rounds = list(zip(*cpu_seconds.values(), strict=True))
    result |= {
        "embed_over_slower": statistics.median(max(t, d) / e for t, d, e in rounds),
        "embed_over_both": statistics.median((t + d) / e for t, d, e in rounds),
        "embed_over_both_cpu": statistics.median((t + d) / e for t, d, e in cpu_rounds),
    }
    for name, value in result.items():
        print(f"{name}: {value:.3f}")
    return {name: round(value, 3) for name, value in result.items()}


def time_loads(folder: Path, count: int) -> dict[str, float]:
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    image = folder / "photos" / "000000.jpg"
    command = [sys.executable, "-c", FIRST_EMBEDDING, str(folder / "run"), str(image)]
    first, *later = [run_load(command, environment) for _ in range(count)]
    best = min(later)
    print(f"load to the first embedding: {first[0]:.1f} s, {first[1]:.1f} s of CPU")
    print(f"with a warm compile cache: {best[0]:.1f} s, {best[1]:.1f} s of CPU")
    return {
        "first_load_seconds": round(first[0], 2),
        "warm_load_seconds": round(best[0], 2),
        "warm_load_cpu_seconds": round(best[1], 2),
    }


def run_load(command: Sequence[str], environment: Any) -> tuple[float, float]:
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    seconds, cpu_seconds = done.stdout.split()
    return float(seconds), float(cpu_seconds)


if __name__ == "__main__":
    main()
