"""Several processes of a run on this machine, started and ended by one command.

Each gets its share of the CPUs and of the GPUs; its lines of output begin with its
number. A signal reaches all of them. If one fails, the others end too.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple

from clipin_jax.errors import DONE, REQUEUE, ClipinError, shorten
from clipin_jax.processes.device_use import visible_gpus
from clipin_jax.processes.place import VARIABLES

_GRACE_SECONDS = 20.0  # for the others to end by themselves when one has failed
_POLL_SECONDS = 0.1
_NOISE = b"[Gloo] Rank"  # how many processes a library has connected, on CPUs
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_DEVICES = "--xla_force_host_platform_device_count"
_PLATFORM = re.compile(rf"{_DEVICES}=(\d+)")


def run_local(count: int, command: Sequence[str]) -> int:
    """Runs a command as several processes of one run; returns the exit code of all.

    Args:
      count: number of processes.
      command: of each; it finds its place in the variables of `place.VARIABLES`.

    Returns:
      0 if all are done, 75 if all saved and stopped, otherwise the code of the first
      one that failed; 128 and the number of a signal that ended it.

    Raises:
      ClipinError: this machine cannot be shared out among so many.
    """
    shares = list(_shares(count))  # before any process starts
    with _signals() as caught:
        processes = [_start(command, share) for share in shares]
        readers = [_forward(i, process) for i, process in enumerate(processes)]
        try:
            code = _wait(processes, caught)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        for reader in readers:
            reader.join(timeout=1.0)  # a child of a process may still hold its output
    return code


def local_count(text: str, flags: Mapping[str, Any]) -> int:
    """Reads the number of processes to start.

    Args:
      text: as given.
      flags: the other flags, by the names of `place.VARIABLES`.

    Raises:
      ClipinError: it is no number, or processes are started by something else.
    """
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise ClipinError(
            f"--local-processes is {shorten(repr(text))}: give a whole number, from 1"
        )
    named = [flag for flag in VARIABLES if flags.get(flag) is not None]
    named += [name for name in VARIABLES.values() if os.environ.get(name)]
    if named:
        raise ClipinError(
            "--local-processes starts all processes itself: leave "
            f"{' and '.join(named)}"
        )
    return int(text)


class _Share(NamedTuple):
    """What a process gets of this machine."""

    environ: dict[str, str]
    cpus: Sequence[int]


def _shares(count: int) -> Iterator[_Share]:
    """Yields the share of each process."""
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    gpus = visible_gpus()
    flags = os.environ.get("XLA_FLAGS", "")
    made = _PLATFORM.search(flags)  # devices that XLA makes of the CPU
    _check_shares(count, "GPUs", len(gpus), "CUDA_VISIBLE_DEVICES")
    _check_shares(count, "devices", int(made[1]) if made else 0, "XLA_FLAGS")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    for index in range(count):
        place = address, str(count), str(index)
        environ = dict(zip(VARIABLES.values(), place, strict=True))
        if gpus:
            size = len(gpus) // count
            own_gpus = gpus[index * size : (index + 1) * size]
            environ["CUDA_VISIBLE_DEVICES"] = ",".join(own_gpus)
        if made:
            own_flag = f"{_DEVICES}={int(made[1]) // count}"
            environ["XLA_FLAGS"] = flags.replace(made[0], own_flag)
        own_cpus = cpus[index::count] if len(cpus) >= count else cpus
        threads = os.environ.get("OMP_NUM_THREADS", str(max(1, len(own_cpus))))
        yield _Share(environ | {"OMP_NUM_THREADS": threads}, own_cpus)


def _check_shares(count: int, what: str, number: int, variable: str) -> None:
    if number % count:
        raise ClipinError(
            f"--local-processes is {count}, among which {number} {what} cannot be "
            f"shared equally: take a number that divides {number}, or set {variable}"
        )


def _start(command: Sequence[str], share: _Share) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        command,
        env={**os.environ, **share.environ, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C in the terminal reaches this command alone
    )
    if share.cpus:
        with contextlib.suppress(OSError):  # it has ended already
            os.sched_setaffinity(process.pid, share.cpus)
    return process


def _forward(index: int, process: subprocess.Popen[bytes]) -> threading.Thread:
    """Starts to print the lines of a process behind its number."""
    assert process.stdout is not None
    thread = threading.Thread(
        target=_print_lines, args=(f"[process {index}] ", process.stdout), daemon=True
    )
    thread.start()
    return thread


def _print_lines(prefix: str, lines: IO[bytes]) -> None:
    with lines:
        for line in lines:
            if line.startswith(_NOISE):
                continue
            text = prefix.encode() + line
            with contextlib.suppress(OSError):
                os.write(2, text if text.endswith(b"\n") else text + b"\n")


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects the signals that ask to stop."""
    caught: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: caught.append(number))
        for number in _SIGNALS
    }
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(processes: Sequence[subprocess.Popen[bytes]], caught: list[int]) -> int:
    """Waits for all; passes signals on, and ends those that outlive a failure."""
    passed, first_failure, deadline = 0, DONE, 0.0
    while any(process.poll() is None for process in processes):
        for number in caught[passed:]:
            passed += 1
            for process in processes:
                process.send_signal(number)
        failed = [(i, c) for i, c in _codes(processes) if c not in (DONE, REQUEUE)]
        if failed and not deadline:
            (index, first_failure), deadline = failed[0], time.monotonic()
            deadline += _GRACE_SECONDS
            _report(index, processes[index].returncode)
        if deadline and time.monotonic() > deadline:
            for process in processes:
                process.kill()
        time.sleep(_POLL_SECONDS)
    codes = [code for _, code in _codes(processes)]
    wrong = [code for code in codes if code not in (DONE, REQUEUE)]
    return first_failure or (wrong[0] if wrong else max(codes))


def _codes(processes: Sequence[subprocess.Popen[bytes]]) -> list[tuple[int, int]]:
    """Returns the codes of the processes that have ended, as a shell gives them."""
    ended = [(i, process.poll()) for i, process in enumerate(processes)]
    return [
        (i, code if code >= 0 else 128 - code) for i, code in ended if code is not None
    ]


def _report(index: int, code: int) -> None:
    if code < 0:
        name = signal.Signals(-code).name
        hint = ", as for lack of memory" if -code == signal.SIGKILL else ""
        print(
            f"clipin: error: process {index} was ended by {name}{hint}; the others end",
            file=sys.stderr, flush=True,
        )  # fmt: skip
