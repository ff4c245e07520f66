"""Is this machine fit to train? Each check says what it found, or what to do."""

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
from clipin_jax.data.image.decode import decode
from clipin_jax.data.text import make_tokenizer
from clipin_jax.errors import ClipinError

GIB = 2**30


def examine(say: Callable[[str], None] = print) -> int:
    """Run every check, one line each. Returns 0 if all is well, 1 if not."""
    broken = 0
    for name, check in CHECKS.items():
        try:
            verdict, finding = "ok", check()
        except Exception as error:  # whatever a broken installation may raise
            verdict, finding = "BROKEN", f"{type(error).__name__}: {error}"
            if isinstance(error, ClipinError):
                finding = str(error)
            broken += 1
        say(f"{verdict:<7}{name:<15}{finding}")
    say(f"{broken} of {len(CHECKS)} checks failed" if broken else "all is well")
    return int(broken > 0)


def _versions() -> str:
    """Installed packages against the bounds that were tested."""
    found = [f"python {platform.python_version()}"]
    outside = []
    try:
        needs = importlib.metadata.requires("clipin_jax") or []
    except importlib.metadata.PackageNotFoundError:
        return f"{found[0]}, clipin_jax is not installed: pip install -e ."
    for text in needs:
        need = Requirement(text)
        if need.marker and not need.marker.evaluate({"extra": ""}):
            continue
        version = importlib.metadata.version(need.name)
        found.append(f"{need.name} {version}")
        if not need.specifier.contains(version, prereleases=True):
            outside.append(f"{need.name} {version} is not {need.specifier}")
    if outside:
        raise ClipinError(f"{'; '.join(outside)}: run pip install again")
    return ", ".join(found)


def _devices() -> str:
    """What jax computes on, and whether a GPU or TPU lies idle beside it."""
    devices = jax.devices()
    found = f"{len(devices)} x {devices[0].device_kind} ({jax.default_backend()})"
    idle = {"cuda": Path("/dev/nvidia0"), "tpu": Path("/dev/accel0")}
    for extra, device in idle.items():
        if device.exists() and jax.default_backend() == "cpu":
            found += f"; {device} is not used: pip install 'clipin_jax[{extra}]'"
    return found


def _cores() -> str:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    return f"{count or os.cpu_count()} usable, data.threads decode images on them"


def _memory() -> str:
    """Memory of the machine, or of the container where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and limit.read_text().strip().isdecimal():
        total = min(total, int(limit.read_text()))
    if total < 2 * GIB:
        raise ClipinError(f"{total / GIB:.1f} GiB: training needs at least 2")
    return f"{total / GIB:.1f} GiB"


def _shared_memory() -> str:
    """Worker processes hand their batches over through it."""
    folder = Path("/dev/shm")
    if not folder.exists():
        return "none, keep data.processes=0"
    free = shutil.disk_usage(folder).free / GIB
    if free < 1:
        return f"{free:.2f} GiB free, keep data.processes=0 or give the container more"
    return f"{free:.1f} GiB free"


def _disk() -> str:
    free = shutil.disk_usage(".").free / GIB
    if free < 1:
        raise ClipinError(f"{free:.2f} GiB free here: checkpoints need more")
    return f"{free:.1f} GiB free here"


def _compile_cache() -> str:
    folder = jax.config.values["jax_compilation_cache_dir"]
    if not folder:
        return "off, set JAX_COMPILATION_CACHE_DIR=FOLDER for faster restarts"
    if "://" not in folder:
        parent = next(p for p in (Path(folder), *Path(folder).parents) if p.exists())
        if not os.access(parent, os.W_OK):
            raise ClipinError(f"{folder} can not be written: choose another folder")
    return folder


def _collective() -> str:
    """A sum over all devices, each of which holds another part."""
    mesh = sharding.make_mesh(data=-1, fsdp=1)
    local = len(jax.local_devices())
    first = jax.process_index() * local
    parts = sharding.put(np.arange(first, first + local, dtype=np.float32), mesh)
    total = jax.jit(jnp.sum, out_shardings=sharding.replicated(mesh))(parts)
    expected = mesh.size * (mesh.size - 1) / 2
    for shard in total.addressable_shards:
        if float(shard.data) != expected:
            raise ClipinError(
                f"device {shard.device} got {float(shard.data)} for a sum over "
                f"{mesh.size} devices, not {expected}: its links or driver are at fault"
            )
    return f"sum over {mesh.size} device(s) is right on each"


def _tokenizer() -> str:
    tokenizer = make_tokenizer(name="bpe", context_length=16)
    caption = "a photo of two cats"
    [ids] = tokenizer([caption])
    if caption not in tokenizer.decode(ids):
        raise ClipinError("captions do not survive the tokenizer: install again")
    return f"{tokenizer.vocab_size} tokens"


def _images() -> str:
    from PIL import Image

    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:4] = 255
    for kind in ("PNG", "JPEG"):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, kind)
        error = np.abs(decode(buffer.getvalue()).astype(int) - picture).max()
        if error > 8:
            raise ClipinError(f"a {kind} is read wrongly: install pillow and opencv")
    return "PNG and JPEG are read"


CHECKS = {
    "versions": _versions,
    "devices": _devices,
    "cores": _cores,
    "memory": _memory,
    "shared memory": _shared_memory,
    "disk": _disk,
    "compile cache": _compile_cache,
    "collective": _collective,
    "tokenizer": _tokenizer,
    "images": _images,
}
