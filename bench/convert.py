"""Compares `clipin data convert` on Dask, with workers killed, with one process.

    python bench/convert.py                  # 20,000 pictures, 16 files, 4 workers
    python bench/convert.py --quick          # 400 pictures
    python bench/convert.py --kills 0        # what Dask alone costs

The pictures are JPEGs of 1280 x 960, a few of them many times. The same command runs
three times: in one process, on Dask while workers are killed (SIGKILL) when a quarter
and when half of the files are there, and in four parts, which are merged. All three
must leave the same files with the same bytes.

Seconds of CPU are compared, those of all processes of a command, of killed ones too, as
other work on the machine changes them less than seconds. The last line is one JSON
object.
"""

import argparse
import csv
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

# isort: split
from photographs import Photographs

DISTINCT = 32  # photographs; the list repeats them
NOISE = 2  # of the photographs, which sets their bytes
POLL = 0.05  # seconds between two looks at the folder


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--files", type=int, default=16)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--width", type=int, default=1280, help="of a picture")
    parser.add_argument("--folder", help="with room for all pictures three times")
    parser.add_argument("--quick", action="store_true", help="400 pictures")
    args = parser.parse_args(argv)
    if args.quick:
        args.pictures = 400
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        print(json.dumps(compare(Path(name), args)))


def compare(folder: Path, args: argparse.Namespace) -> dict[str, object]:
    write_list(folder, args.pictures, args.width)
    size = -(-args.pictures // args.files)
    result: dict[str, object] = {
        "pictures": args.pictures,
        "width": args.width,
        "files": args.files,
        "workers": args.workers,
    }
    on_dask = ["--on", "dask", "--workers", str(args.workers)]
    cpu = {}
    for name, options in (("one", []), ("dask", on_dask), ("parts", None)):
        kills = args.kills if name == "dask" else 0
        before, start = cpu_of_children(), time.perf_counter()
        if options is None:
            for part in range(1, 5):
                convert(folder, name, size, ["--part", f"{part}/4"])
            options = ["--merge"]
        killed = convert(folder, name, size, options, files=args.files, kills=kills)
        cpu[name] = cpu_of_children() - before
        seconds = time.perf_counter() - start
        print(f"{name}: {seconds:.1f} s, {cpu[name]:.1f} s of CPU, {killed} killed")
        result[f"{name}_seconds"] = round(seconds, 1)
        result[f"{name}_cpu_seconds"] = round(cpu[name], 1)
        result[f"{name}_equal"] = checksums(folder / name) == checksums(folder / "one")
        result[f"{name}_killed"] = killed
    for name in ("dask", "parts"):
        result[f"{name}_over_one"] = round(cpu[name] / cpu["one"], 3)
    return result


def write_list(folder: Path, count: int, width: int) -> None:
    """Writes a few photographs, and a list that names each of them many times."""
    photographs = Photographs(min(DISTINCT, count), width * 3 // 4, width, NOISE)
    for number, image in enumerate(photographs.files):
        (folder / f"{number}.jpg").write_bytes(image)
    with (folder / "pairs.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["filepath", "title"])
        for number in range(count):
            table.writerow([f"{number % len(photographs)}.jpg", f"photograph {number}"])


def convert(
    folder: Path,
    name: str,
    size: int,
    options: Sequence[str],
    *,
    files: int = 1,
    kills: int = 0,
) -> int:
    """Runs the command; returns how many of its workers were killed on the way."""
    command = [sys.executable, "-m", "clipin_jax", "data", "convert"]
    command += [f"clip:data={folder / 'pairs.csv'}", str(folder / name), *options]
    command += ["--records-per-file", str(size)]
    log, killed = folder / f"{name}.txt", 0
    with log.open("a") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        while process.poll() is None:
            time.sleep(POLL)
            done = len(list((folder / name).glob("*.array_record")))
            if killed < kills and done >= files * (killed + 1) / 4:
                killed += kill_a_worker(process.pid)
    if process.returncode:
        raise SystemExit(f"{name} failed: {log.read_text()}")
    return killed


def is_worker(process: psutil.Process) -> bool:
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return False


def kill_a_worker(parent: int) -> int:
    """Kills the worker of a command that has worked most; returns how many it is."""
    workers = [
        child
        for child in psutil.Process(parent).children(recursive=True)
        if is_worker(child)
    ]
    busiest = max(workers, key=lambda child: sum(child.cpu_times()[:2]), default=None)
    if busiest is None:
        return 0
    os.kill(busiest.pid, signal.SIGKILL)
    return 1


def checksums(folder: Path) -> dict[str, str]:
    """Returns the sha256 of all files of a folder, hidden ones too."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def cpu_of_children() -> float:
    """Returns the CPU seconds of all processes that were started and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
