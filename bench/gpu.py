"""Times the steps that GPUs are to take, and compares them with limits.

    python bench/gpu.py          # on one H100 or H200: about ten minutes
    python bench/gpu.py clip     # some of the rows

It needs `pip install 'clipin_jax[cuda,bench]'`. Each row is a run of `step_time.py` in
a process of its own. Without a GPU it prints the commands. The last line is JSON.
"""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

STEP_TIME = Path(__file__).with_name("step_time.py")
# Name -> arguments of `step_time.py`; the plain PyTorch step is in the first row.
ROWS = {
    "clip": ("--batch-size=512", "--torch"),
    "plain_attention": ("--batch-size=512", "--set=model.attention=plain"),
    "micro_batches": (
        "--batch-size=4096", "--set=micro_batches=8", "--steps=3", "--rounds=3"
    ),
    "chunked": (
        "--batch-size=4096", "--set=micro_batches=8", "--steps=3", "--rounds=3",
        "--set=objectives.contrastive.impl=chunked",
    ),
    "ring": (
        "--batch-size=4096", "--set=micro_batches=8", "--steps=3", "--rounds=3",
        "--set=objectives.contrastive.impl=ring",
    ),
}  # fmt: skip
# Part of the device's name -> images per second that CLIP and CLIPin are to reach.
LEAST = {"H200": (3200, 2400), "H100": (2900, 2150)}
LEAST_OVER_TORCH = 1.3


def command(name: str) -> list[str]:
    """Returns the command of a row."""
    return [sys.executable, str(STEP_TIME), "--device=gpu", *ROWS[name]]


def has_gpu() -> bool:
    """Returns whether jax has a GPU, in a process that gives its memory back."""
    code = "import jax; jax.devices('gpu')"
    return not subprocess.run(
        [sys.executable, "-c", code], capture_output=True
    ).returncode


def limits(result: Mapping[str, Any]) -> Iterator[tuple[str, float, float]]:
    """Yields figures of the first row with the least that they are to be."""
    for part, (clip, clipin) in LEAST.items():
        if part in result["device"]:
            yield "clip_images_per_second", result["clip_images_per_second"], clip
            yield "clipin_images_per_second", result["clipin_images_per_second"], clipin
    if "torch_over_clip" in result:
        yield "torch_over_clip", result["torch_over_clip"], LEAST_OVER_TORCH


def run(names: Sequence[str]) -> dict[str, Any]:
    """Runs rows, prints their tables, and returns their figures."""
    results = {}
    for name in names:
        print(f"{name}: {shlex.join(command(name))}", flush=True)
        ended = subprocess.run(command(name), stdout=subprocess.PIPE, text=True)
        print(ended.stdout, flush=True)
        if ended.returncode:  # such as out of memory; the other rows still count
            results[name] = {"exit_code": ended.returncode}
            continue
        results[name] = json.loads(ended.stdout.splitlines()[-1])
        for figure, value, least in limits(results[name]) if name == "clip" else ():
            mark = "" if value >= least else "  BELOW"
            print(f"{figure:26} {value:9.2f}, least {least:g}{mark}")
    return results


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Times steps on a GPU.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    args = parser.parse_args(argv)
    if unknown := set(args.rows) - ROWS.keys():
        parser.error(f"no row {', '.join(unknown)}; known: {', '.join(ROWS)}")
    names = args.rows or list(ROWS)
    if has_gpu():
        print(json.dumps(run(names)))
        return
    print("jax has no GPU here; on a machine with one this runs:")
    for name in names:
        print(shlex.join(command(name)))
    print(json.dumps({}))


if __name__ == "__main__":
    main()
