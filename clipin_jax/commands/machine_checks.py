"""Checks of this machine: each returns what it measured, or raises what to do."""

import importlib.metadata
import io
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from packaging.requirements import Requirement

from clipin_jax.core import sharding
from clipin_jax.data.cpus import available_cpus
from clipin_jax.data.image.decode import decode
from clipin_jax.data.text import make_tokenizer
from clipin_jax.errors import DONE, FAILED, ClipinError
from clipin_jax.processes.agreement import check_same, code_facts, device_facts
from clipin_jax.processes.device_use import describe_processes, idle_gpus
from clipin_jax.processes.joined import this_group
from clipin_jax.runs.compile_cache import cache_bound, cache_size, open_compile_cache

GIB = 2**30


def check_machine(write: Callable[[str], None] = print) -> int:
    """Runs every check and writes a line for each. Returns the exit code."""
    failed, group = 0, this_group()
    for name, check in CHECKS.items():
        try:
            verdict, result = "ok", check()
        except Exception as error:  # whatever a broken installation may raise
            verdict, result = "BROKEN", f"{type(error).__name__}: {error}"
            if isinstance(error, ClipinError):
                result = str(error)
            failed += 1
        if group is not None and group.index:
            if verdict == "ok":
                continue  # as in process 0, which writes it
            name = f"{name} of {group.name(group.index)}: "
        write(f"{verdict:<7}{name:<15}{result}")
    if group is not None and group.index:
        return FAILED if failed else DONE
    write(f"{failed} of {len(CHECKS)} checks failed" if failed else "all checks passed")
    return FAILED if failed else DONE


def _versions() -> str:
    """Versions of the installed packages, within the bounds that were tested."""
    versions = [f"python {platform.python_version()}"]
    outside = []
    try:
        needs = importlib.metadata.requires("clipin_jax") or []
    except importlib.metadata.PackageNotFoundError:
        return f"{versions[0]}, clipin_jax is not installed: pip install -e ."
    for text in needs:
        need = Requirement(text)
        if need.marker and not need.marker.evaluate({"extra": ""}):
            continue
        version = importlib.metadata.version(need.name)
        versions.append(f"{need.name} {version}")
        if not need.specifier.contains(version, prereleases=True):
            outside.append(f"{need.name} {version} is not {need.specifier}")
    if outside:
        raise ClipinError(f"{'; '.join(outside)}: run pip install again")
    return ", ".join(versions)


def _devices() -> str:
    """The devices that jax uses, and a GPU or TPU that it does not use."""
    devices = jax.devices()
    used = f"{len(devices)} x {devices[0].device_kind} ({jax.default_backend()})"
    if left_over := idle_gpus(this_group(), jax.local_devices()):
        used += f"; {left_over}"
    idle = {"cuda": Path("/dev/nvidia0"), "tpu": Path("/dev/accel0")}
    for extra, device in idle.items():
        if device.exists() and jax.default_backend() == "cpu":
            used += f"; {device} is not used: pip install 'clipin_jax[{extra}]'"
    return used


def _processes() -> str:
    """How many processes have joined; all must have the same code and devices."""
    group = this_group()
    if group is not None:
        check_same(group, code_facts() | device_facts(), "come to this check")
    return describe_processes(group).removeprefix("processes ")


def _cores() -> str:
    return f"{len(available_cpus())} usable, data.threads decode images on them"


def _memory() -> str:
    """Memory of the machine, or of the container if that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and limit.read_text().strip().isdecimal():
        total = min(total, int(limit.read_text()))
    if total < 2 * GIB:
        raise ClipinError(f"{total / GIB:.1f} GiB: training needs at least 2")
    return f"{total / GIB:.1f} GiB"


def _shared_memory() -> str:
    """Room in shared memory, through which worker processes pass their batches."""
    folder = Path("/dev/shm")
    if not folder.exists():
        return "none: keep data.processes=0"
    free = shutil.disk_usage(folder).free / GIB
    if free < 1:
        return f"{free:.2f} GiB free: keep data.processes=0, or give the container more"
    return f"{free:.1f} GiB free"


def _disk() -> str:
    free = shutil.disk_usage(".").free / GIB
    if free < 1:
        raise ClipinError(f"{free:.2f} GiB free here: checkpoints need more")
    return f"{free:.1f} GiB free here"


def _compile_cache() -> str:
    """The folder of compiled programs, its size, and the size that it may reach."""
    try:
        folder = open_compile_cache()
    except ClipinError as error:  # runs do without
        return f"off: {error}"
    if not folder:
        return "off: every start compiles anew"
    if "://" in folder:
        return folder
    parent = next(p for p in (Path(folder), *Path(folder).parents) if p.exists())
    if not os.access(parent, os.W_OK):
        raise ClipinError(f"{folder} cannot be written: choose another folder")
    size, bound = cache_size(Path(folder)), cache_bound()
    limit = f"at most {bound / GIB:.1f} GiB" if bound is not None else "no bound"
    return f"{folder} has {size / 2**20:.1f} MiB, {limit}"


def _collective() -> str:
    """A sum over all devices, each of which holds one part."""
    slices = sharding.count_slices(jax.devices())
    mesh = sharding.make_mesh(data=-1, fsdp=1, dcn=slices)
    local = len(jax.local_devices())
    first = jax.process_index() * local
    parts = sharding.put(np.arange(first, first + local, dtype=np.float32), mesh)
    total = jax.jit(jnp.sum, out_shardings=sharding.replicated(mesh))(parts)
    expected = mesh.size * (mesh.size - 1) / 2
    for shard in total.addressable_shards:
        if float(shard.data) != expected:
            raise ClipinError(
                f"device {shard.device} got {float(shard.data)} for a sum over "
                f"{mesh.size} devices, not {expected}: check its links and driver"
            )
    return f"sum over {mesh.size} device(s) is correct on each"


def _tokenizer() -> str:
    tokenizer = make_tokenizer(name="bpe", context_length=16)
    caption = "a photo of two cats"
    [ids] = tokenizer([caption])
    if caption not in tokenizer.decode(ids):
        raise ClipinError(
            "the tokenizer does not give captions back: install clipin_jax again"
        )
    return f"{tokenizer.vocab_size} tokens"


def _images() -> str:
    from PIL import Image

    image = np.zeros((8, 8, 3), np.uint8)
    image[:4] = 255
    for kind in ("PNG", "JPEG"):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, kind)
        error = np.abs(decode(buffer.getvalue()).astype(int) - image).max()
        if error > 8:
            raise ClipinError(
                f"pixels of a {kind} are wrong: install pillow and opencv again"
            )
    return "PNG and JPEG are decoded"


CHECKS = {
    "versions": _versions,
    "devices": _devices,
    "processes": _processes,
    "cores": _cores,
    "memory": _memory,
    "shared memory": _shared_memory,
    "disk": _disk,
    "compile cache": _compile_cache,
    "collective": _collective,
    "tokenizer": _tokenizer,
    "images": _images,
}
