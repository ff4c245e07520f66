"""Times a sweep of 12 points against 12 commands of `clipin train`, one by one.

    python bench/sweep.py
    python bench/sweep.py quickstart:clipin total_steps=100

Points differ in learning rate and loss weight. Both read and write one compile cache,
which a run before has filled, so that neither pays for compiling anew. CPU seconds are
those of all cores; other work on the machine changes them less than seconds. The last
line is one JSON object.
"""

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

RATES, WEIGHTS = ("2e-4", "5e-4", "1e-3", "2e-3"), ("0.5", "1", "2")
RATE, WEIGHT = "optim.learning_rate.peak", "objectives.contrastive.weight"
SHORT = (
    "total_steps=40", "log_every_steps=20", "health_every_steps=0",
    "optim.learning_rate.warmup_steps=5", "log.tensorboard=False",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", default="quickstart")
    parser.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE")
    args = parser.parse_args(argv)
    given = [text.partition("=")[0] for text in args.overrides]
    short = [text for text in SHORT if text.partition("=")[0] not in given]
    base = [args.config, *short, *args.overrides]
    points = list(itertools.product(RATES, WEIGHTS))
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"XDG_CACHE_HOME": f"{folder}/caches"}
        time_command(["train", *base, "--workdir", f"{folder}/first"], environment)
        space = [f"{RATE}={','.join(RATES)}", f"{WEIGHT}={','.join(WEIGHTS)}"]
        together = time_command(
            ["sweep", *base, *space, "--workdir", f"{folder}/sweep"], environment
        )
        apart = [0.0, 0.0]
        for number, (rate, weight) in enumerate(points):
            varied = [f"{RATE}={rate}", f"{WEIGHT}={weight}"]
            run = f"{folder}/run{number}"
            spent = time_command(
                ["train", *base, *varied, "--workdir", run], environment
            )
            apart = [a + b for a, b in zip(apart, spent, strict=True)]
        done = len(list(Path(folder, "sweep").glob("points/*/DONE")))
    result = {
        "config": args.config,
        "points": done,
        "sweep_seconds": round(together[0], 1),
        "separate_seconds": round(apart[0], 1),
        "ratio": round(together[0] / apart[0], 3),
        "cpu_ratio": round(together[1] / apart[1], 3),
    }
    print(json.dumps(result))


def time_command(
    words: Sequence[str], environment: Mapping[str, str]
) -> tuple[float, float]:
    """Returns seconds and CPU seconds of a `clipin` command."""
    before, start = cpu_of_children(), time.perf_counter()
    command = [sys.executable, "-m", "clipin_jax", *words]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    print(f"{words[0]}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return seconds, cpu_of_children() - before


def cpu_of_children() -> float:
    """Returns CPU seconds of all processes that this one has waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
