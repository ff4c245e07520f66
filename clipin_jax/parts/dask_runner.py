"""Makes shards on the workers of a Dask cluster."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import importlib
import logging
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from tqdm import tqdm

from clipin_jax.errors import ClipinError, RetryableError, first_line
from clipin_jax.parts.folder import Entry
from clipin_jax.parts.job import Shards

_INSTALL = "pip install 'clipin_jax[dask]'"
_CONNECT = 5  # seconds in which a scheduler must answer
_RETRIES = 2  # of a shard after an error of the system, such as a disk that is gone
_DEATHS = 10  # of workers during one shard, after which the shard is to blame
_CONFIG = {
    "distributed.scheduler.allowed-failures": _DEATHS,
    # It looks at every worker 100 times a second, for a dashboard that nobody opens.
    "distributed.worker.profile.enabled": False,
}
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
# For workers that are started again, after Ctrl-C is no longer ignored.
_DEAF = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
# Kind of cluster -> package to install, module, class.
_CLUSTERS = {
    "slurm": ("dask-jobqueue", "dask_jobqueue", "SLURMCluster"),
    "kubernetes": ("dask-kubernetes", "dask_kubernetes.operator", "KubeCluster"),
}


def make_on_dask(
    work: Shards, numbers: Sequence[int], on: str, workers: int | None
) -> Generator[tuple[int, Entry], None, None]:
    """Yields shards as workers finish them; those of a lost worker are made elsewhere.

    Args:
      work: makes a shard.
      numbers: of the shards.
      on: "dask" for processes of this machine; "dask:" with the address of a scheduler,
        or "slurm" or "kubernetes".
      workers: of a cluster that is started; None for its own number.

    Raises:
      ClipinError: dask is not installed, no scheduler answers, a shard cannot be made,
        or its worker dies again and again.
      OSError: a worker cannot read or write a file.
    """
    if not numbers:
        return
    distributed = _import("distributed", "dask")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        place = on.partition(":")[2]
        client = stack.enter_context(_client(distributed, place, workers, len(numbers)))
        futures = {}
        stack.callback(lambda: client.cancel(list(futures)))
        if not client.scheduler_info()["workers"]:
            print("clipin: waits for the first worker of Dask", file=sys.stderr)
        make = _self_contained(work)
        for number in numbers:
            future = client.submit(
                make, number, pure=False, retries=_RETRIES,
                key=f"{work.folder.name}-{number}-{id(futures):x}",
            )  # fmt: skip
            futures[future] = number
        bar = stack.enter_context(
            tqdm(total=len(numbers), unit="part", dynamic_ncols=True)
        )
        for future in distributed.as_completed(list(futures), loop=client.loop):
            yield futures[future], _result(distributed, future)
            bar.update()


def _self_contained(work: Shards) -> Callable[[int], tuple[Entry | None, str]]:
    """Returns a function that any worker can read, also one without this package.

    A worker that cannot read what it is sent stops to answer. A local function is sent
    as code, and its content is read in the task, whose errors come back.
    """
    content = pickle.dumps(functools.partial(_make, work))

    def make(number: int) -> tuple[Entry | None, str]:
        import pickle

        return pickle.loads(content)(number)

    return make


def _make(work: Shards, number: int) -> tuple[Entry | None, str]:
    """Makes a shard on a worker; returns its entry, or what the user must change."""
    _keep_memory()
    try:
        return work.make(number), ""
    except ClipinError as error:  # another try would not help
        return None, str(error)


@functools.cache
def _keep_memory() -> None:
    """Lets glibc keep the memory of an image for the next one, as it does by itself.

    Dask's workers start with MALLOC_TRIM_THRESHOLD_=65536, which returns it to the
    system after each image: conversions took 1.7 times the time.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, 256 << 20)
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # bytes, the most that it takes


def _result(distributed: Any, future: Any) -> Entry:
    try:
        entry, problem = future.result()
    except distributed.KilledWorker as error:
        raise RetryableError(
            f"{_DEATHS} workers died while they made a shard ({first_line(error)}): "
            "look at their memory, and run the same command to resume"
        ) from error
    except ImportError as error:
        raise ClipinError(
            f"the workers of Dask lack a package or have another version of it: {error}"
        ) from error
    except Exception as error:
        is_of_disk = isinstance(error, OSError) and error.errno is not None
        if is_of_disk and not isinstance(error, ConnectionError):
            raise
        raise RetryableError(
            f"Dask lost the work ({type(error).__name__}: {first_line(error)}): run "
            "the same command to resume"
        ) from error
    if problem:
        raise ClipinError(problem)
    return entry


@contextlib.contextmanager
def _client(
    distributed: Any, place: str, workers: int | None, most: int
) -> Iterator[Any]:
    """Yields a client of a cluster, which ends with it if it is started here."""
    from dask import config

    with contextlib.ExitStack() as stack:
        target: Any = place
        if not place or place in _CLUSTERS:
            config.set(_CONFIG)
            target = stack.enter_context(_start(distributed, place, workers, most))
        else:
            _check_answers(place)
        client = distributed.Client(target, timeout=_CONNECT, set_as_default=False)
        yield stack.enter_context(client)


def _check_answers(address: str) -> None:
    """Raises ClipinError unless a Dask scheduler answers at an address."""
    from distributed.comm.core import connect

    async def greet() -> None:
        (await connect(address, timeout=_CONNECT)).abort()

    try:
        asyncio.run(greet())
    except Exception as error:  # whatever a web server's answer leads to
        raise RetryableError(
            f"no Dask scheduler answers at {address}: {first_line(error)}"
        ) from error


@contextlib.contextmanager
def _start(
    distributed: Any, kind: str, workers: int | None, most: int
) -> Iterator[Any]:
    """Yields a cluster: of this machine, or as its own config file describes it."""
    if not kind:
        with _no_interrupt():
            cluster = distributed.LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address=":0",
                silence_logs=logging.CRITICAL, memory_limit=None,
                preload=[_DEAF],
            )  # fmt: skip
        with cluster:
            yield cluster
        return
    package, module, name = _CLUSTERS[kind]
    start = getattr(_import(module, package), name)
    try:
        cluster = start()
    except (ClipinError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise ClipinError(
            f"{package} cannot start a cluster: {type(error).__name__}: "
            f"{first_line(error)}; see its config file in ~/.config/dask"
        ) from error
    with cluster:
        cluster.scale(workers or most)
        yield cluster


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """Ignores Ctrl-C, as do processes that start meanwhile, for a second or two.

    A cluster that is stopped while it starts prints tracebacks. In a terminal, Ctrl-C
    reaches workers too, which leave it to this process.
    """
    if threading.current_thread() is not threading.main_thread():  # as in a notebook
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _import(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        remedy = _INSTALL if package == "dask" else f"pip install {package}"
        raise ClipinError(f"--on dask needs the package {package}: {remedy}") from error
