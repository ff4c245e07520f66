"""Machines to plan for: what their chips compute, hold and move.

Figures are those of the makers' data sheets, for dense bfloat16 products. The memory is
what the compiler lets a program use. jax counts the two cores of a chip of tpu7x as
devices: each has half of the chip.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from clipin_jax.errors import ClipinError, did_you_mean

GIB = 2**30


class Chip(NamedTuple):
    """One device, as jax counts them.

    Attributes:
      peak_flops: of bfloat16 products, in a second.
      memory_bytes: that a program may use.
      memory_bandwidth: bytes in a second.
      link_bandwidth: bytes that a device sends to others of its slice, in a second.
      network_bandwidth: bytes that it sends to other slices, in a second.
    """

    peak_flops: float
    memory_bytes: float
    memory_bandwidth: float
    link_bandwidth: float
    network_bandwidth: float


# Google Cloud's pages of the TPU versions, NVIDIA's data sheets; CPUs are made up, so
# that plans of tests have times too. The network of a TPU is "DCN bandwidth per chip"
# (v5p, v6e, tpu7x), or that of a pod by its 256 chips (v5e); none is stated for v4,
# which gets that of v5p. The network of a GPU is its card in a DGX.
TPUS = {
    "v4": Chip(275e12, 30.75 * GIB, 1228e9, 300e9, 6.25e9),
    "v5e": Chip(197e12, 15.75 * GIB, 819e9, 200e9, 3.125e9),
    "v5p": Chip(459e12, 95.74 * GIB, 2765e9, 600e9, 6.25e9),
    "v6e": Chip(918e12, 31.25 * GIB, 1640e9, 448e9, 12.5e9),
    "tpu7x": Chip(1153e12, 94.75 * GIB, 3690e9, 600e9, 6.25e9),
}
OTHERS = {
    "a100": Chip(312e12, 79 * GIB, 2039e9, 300e9, 25e9),
    "h100": Chip(989.5e12, 79 * GIB, 3350e9, 450e9, 50e9),
    "h200": Chip(989.5e12, 139 * GIB, 4800e9, 450e9, 50e9),
    "cpu": Chip(1e12, 64 * GIB, 100e9, 10e9, 1e9),
}
ALIASES = {"gpu": "h100"}
# `device_kind` of jax -> a key of `TPUS`, and how many cores its figures are of.
_TPU_KINDS = {
    "TPU v4": ("v4", 2),
    "TPU v5 lite": ("v5e", 1),
    "TPU v5e": ("v5e", 1),
    "TPU v5": ("v5p", 2),
    "TPU v5p": ("v5p", 2),
    "TPU v6 lite": ("v6e", 1),
    "TPU v6e": ("v6e", 1),
    "TPU7x": ("tpu7x", 1),
}
# Words of `device_kind` -> peak of bfloat16 products; the first one counts.
_GPU_PEAKS = {
    "H200 NVL": 835.5e12,
    "H200": OTHERS["h200"].peak_flops,
    "GH200": OTHERS["h200"].peak_flops,
    "H100 PCIe": 756e12,
    "H100 NVL": 835.5e12,
    "H100": OTHERS["h100"].peak_flops,
    "A100": OTHERS["a100"].peak_flops,
    "A10G": 70e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165.2e12,
    "RTX 3090": 71e12,
}
_FORM = re.compile(r"(?:(\d+)x)?([a-z][a-z0-9]*):(\d+(?:x\d+)*)")
_KIND = re.compile(r"^\d+x")  # the number of slices before a kind
_MOST = 1 << 16  # devices


class Machine(NamedTuple):
    """Devices to plan for.

    Attributes:
      name: as given, such as `v5e:4x4`, or `2xv5e:4x4` for two slices.
      kind: a key of `TPUS` or `OTHERS`.
      topology: of a slice of TPUs, such as `4x4`; "" for others.
      slices: with a network between them; hosts, if they are no TPUs.
      count: of devices of all slices; 0 where only the topology tells.
      chip: what each device can do.
    """

    name: str
    kind: str
    topology: str
    slices: int
    count: int
    chip: Chip


def find_machine(name: str) -> Machine:
    """Returns a machine by name: `v5e:4x4`, `2xv5e:4x4`, `cpu:8`, `h100:8`, `gpu:8`.

    Raises:
      ClipinError: an unknown kind, or a number or topology that is none.
    """
    match = _FORM.fullmatch(name)
    kind = ALIASES.get(match[2], match[2]) if match else ""
    if not match or kind not in TPUS | OTHERS:
        known = [*TPUS, *OTHERS, *ALIASES]
        raise ClipinError(
            f"--on is {name!r}: give a chip and how many, such as v5e:4x4, cpu:8 or "
            f"h100:8, and 2xv5e:4x4 for two slices; "
            f"{did_you_mean(_KIND.sub('', name.partition(':')[0]), known)}"
        )
    slices = int(match[1] or 1)
    if not 1 <= slices <= _MOST:
        raise ClipinError(
            f"--on is {name!r}: give the number of slices, from 1 to {_MOST}, such as "
            f"2x{kind}:{match[3]}"
        )
    sizes = [int(size) for size in match[3].split("x")]
    if kind in TPUS:
        return Machine(name, kind, match[3], slices, 0, TPUS[kind])
    if len(sizes) > 1 or not 1 <= sizes[0] <= _MOST:
        raise ClipinError(
            f"--on is {name!r}: give the number of devices, from 1 to {_MOST}, such as "
            f"{kind}:8"
        )
    return Machine(name, kind, "", slices, slices * sizes[0], OTHERS[kind])


def peak_flops(device_kind: str, num_cores: int = 1) -> float | None:
    """Returns the peak of bfloat16 products of a device that is there, in a second.

    Args:
      device_kind: of a device of jax, such as `TPU v5 lite` or `NVIDIA H200`.
      num_cores: of the device, if it is a TPU: one of v4 may have one core or both.

    Returns:
      None for a device that is not listed, such as a CPU.
    """
    if device_kind in _TPU_KINDS:
        name, cores = _TPU_KINDS[device_kind]
        return TPUS[name].peak_flops * num_cores / cores
    for words, peak in _GPU_PEAKS.items():
        if re.search(rf"\b{words}\b", device_kind):
            return peak
    return None
