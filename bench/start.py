"""Times the first and the second start of a run, until its first step is done.

    python bench/start.py                            # the quickstart
    python bench/start.py quickstart:clipin
    python bench/start.py clip:runlocal model.image.depth=12

Each start is a process with its own run folder. The first one finds an empty compile
cache, the second one what the first has left. CPU seconds are those of all cores; other
work on the machine changes them less than seconds. The last line is one JSON object.
"""

import argparse
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

POLL = 0.01  # seconds between two looks at the metrics


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", default="quickstart")
    parser.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE")
    args = parser.parse_args(argv)
    result: dict[str, object] = {"config": args.config}
    with tempfile.TemporaryDirectory() as folder:
        for start in ("first", "second"):
            run = Path(folder, start)
            seconds, cpu_seconds = time_start([args.config, *args.overrides], run)
            print(f"{start} start: {seconds:.1f} s, {cpu_seconds:.1f} s of CPU")
            result[f"{start}_seconds"] = round(seconds, 2)
            result[f"{start}_cpu_seconds"] = round(cpu_seconds, 2)
    print(json.dumps(result))


def time_start(config: Sequence[str], run: Path) -> tuple[float, float]:
    """Returns seconds and CPU seconds until the first step; ends the run there.

    The compile cache is beside the run's folder.
    """
    environment = os.environ | {"XDG_CACHE_HOME": str(run.parent / "caches")}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    command = [sys.executable, "-m", "clipin_jax", "train", *config]
    command += ["log_every_steps=1", "--workdir", str(run)]
    log, metrics = run.with_suffix(".txt"), run / "metrics.jsonl"
    before, start = cpu_of_children(), time.perf_counter()
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
        while not (metrics.exists() and metrics.stat().st_size):
            if process.poll() is not None:
                raise SystemExit(f"the run ended: {log.read_text()}")
            time.sleep(POLL)
        seconds = time.perf_counter() - start
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return seconds, cpu_of_children() - before


def cpu_of_children() -> float:
    """Returns the CPU seconds of all processes that were started and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
