"""Devices of a machine that is not there, for which the compiler still compiles."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, Any

from clipin_jax.errors import ClipinError, first_line
from clipin_jax.plan.machines import Machine

_LOCK = "libtpu_lockfile"  # of the TPU compiler, in the temporary folder
# Without these it writes warnings to the terminal; it compiles for any chip.
_QUIET = {
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",
}
# Kind -> options of its topology: jax runs both cores of a chip of v4 as one device.
_CHIP_OPTIONS = {"v4": {"chip_config_name": "megacore"}}
_TPU_FILES = ("/dev/accel*", "/dev/vfio/*")  # where Linux shows a TPU
_PLATFORM = "--xla_force_host_platform_device_count="


def silence_compiler_without_tpu() -> None:
    """Keeps an installed TPU compiler from warning that this machine has no TPU.

    Call it before jax starts.
    """
    if not any(map(glob.glob, _TPU_FILES)):
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)


def prepare_environment(machine: Machine) -> None:
    """Sets what jax reads when it starts; call it before jax is imported.

    The plan is made on the CPU, whatever devices this machine has.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # there is no server that tells the TPU
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"  # `_one_at_a_time` takes turns
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if machine.topology:
        # A program for devices that are not there is written, but cannot be read.
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    else:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} {_PLATFORM}{machine.count}".strip()


@contextlib.contextmanager
def open_devices(machine: Machine) -> Iterator[Sequence[Any]]:
    """Yields the devices of a machine; a plan for a TPU waits for others to end.

    Raises:
      ClipinError: the TPU compiler is not installed, or knows no such topology; or jax
        was started with fewer devices.
    """
    if not machine.topology:
        yield _host_devices(machine)
        return
    silence_compiler_without_tpu()
    with _one_at_a_time():
        yield _tpu_devices(machine)


def _host_devices(machine: Machine) -> Sequence[Any]:
    import jax

    devices = jax.devices("cpu")
    if len(devices) < machine.count:
        raise ClipinError(
            f"a plan for {machine.name} needs {machine.count} CPU devices, but jax has "
            f"started with {len(devices)}: set XLA_FLAGS={_PLATFORM}{machine.count} "
            "before jax is imported"
        )
    return devices[: machine.count]


def _tpu_devices(machine: Machine) -> Sequence[Any]:
    try:
        import libtpu  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ClipinError(
            f"a plan for {machine.name} needs the TPU compiler: "
            "pip install 'clipin_jax[plan]'"
        ) from None
    from jax.experimental import topologies

    name = f"{machine.kind}:{machine.topology}"
    options: dict[str, Any] = dict(_CHIP_OPTIONS.get(machine.kind, {}))
    if machine.slices > 1:
        options["num_slices"] = machine.slices
    try:
        return topologies.get_topology_desc(
            platform="tpu", topology_name=name, **options
        ).devices
    except Exception as error:  # the compiler's own, of several types
        raise ClipinError(
            f"--on is {machine.name!r}, which is no topology of {machine.kind}: "
            f"{first_line(error)}"
        ) from error


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Waits until no other process has the TPU compiler, and says so."""
    path = os.path.join(tempfile.gettempdir(), _LOCK)
    with contextlib.ExitStack() as stack:
        # Another user's file cannot be locked; the compiler works all the same.
        with contextlib.suppress(PermissionError):
            _lock(stack.enter_context(open(path, "a")), path)
        yield


def _lock(file: IO[str], path: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"clipin: waiting for the process that holds {path}", file=sys.stderr)
        fcntl.flock(file, fcntl.LOCK_EX)
