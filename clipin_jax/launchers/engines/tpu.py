"""Slices of TPUs by the planner's names: their hosts, and what each cloud calls them.

Sources: Google Cloud's pages of the TPU versions and "Plan TPUs in GKE"; runtime names
from "TPU software versions".
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import NamedTuple

from clipin_jax.errors import ClipinError, did_you_mean, shorten

_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_SMALL_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4")  # above: multiples of 4x4x4
_CUBE = 4


class _Kind(NamedTuple):
    """A TPU version.

    Attributes:
      gke: the label of its GKE nodes.
      vm: the start of its accelerator type; "" if TPU VMs have none.
      runtime: the software of its TPU VMs.
      per_chip: what the number of its accelerator type counts for a chip.
      is_flat: whether topologies have two dimensions.
    """

    gke: str
    vm: str
    runtime: str
    per_chip: int
    is_flat: bool


_KINDS = {
    "v4": _Kind("tpu-v4-podslice", "v4", "tpu-ubuntu2204-base", 2, False),
    "v5e": _Kind("tpu-v5-lite-podslice", "v5litepod", "v2-alpha-tpuv5-lite", 1, True),
    "v5p": _Kind("tpu-v5p-slice", "v5p", "v2-alpha-tpuv5", 2, False),
    "v6e": _Kind("tpu-v6e-slice", "v6e", "v2-alpha-tpuv6e", 1, True),
    "tpu7x": _Kind("tpu7x", "", "", 2, False),
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """A slice of TPUs.

    Attributes:
      kind: such as `v5e`.
      topology: such as `4x4`.
    """

    kind: str
    topology: str

    @property
    def chips(self) -> int:
        """How many chips it has."""
        return math.prod(map(int, self.topology.split("x")))

    @property
    def gke_label(self) -> str:
        """The label `cloud.google.com/gke-tpu-accelerator` of its nodes."""
        return _KINDS[self.kind].gke

    @property
    def accelerator_type(self) -> str:
        """Its name for TPU VMs, xpk and gcluster, such as `v5litepod-16`."""
        kind = _KINDS[self.kind]
        return f"{kind.vm or self.kind}-{self.chips * kind.per_chip}"

    @property
    def runtime(self) -> str:
        """The software of its TPU VMs.

        Raises:
          ClipinError: there are no TPU VMs of this kind.
        """
        if runtime := _KINDS[self.kind].runtime:
            return runtime
        raise ClipinError(f"there are no TPU VMs of {self.kind}: use --on jobset")

    @property
    def vm_hosts(self) -> int:
        """How many TPU VMs it has: up to eight chips of a flat one share a host."""
        one = 8 if _KINDS[self.kind].is_flat else 4
        return 1 if self.chips <= one else self.chips // 4


def find_slice(key: str, text: str) -> Slice:
    """Returns a slice by the planner's name, such as `v5e:4x4`.

    Args:
      key: the setting that names it.
      text: its value.

    Raises:
      ClipinError: no such chip, or no topology of it that Google Cloud offers.
    """
    if not text:
        raise ClipinError(f"{key} is missing: --set {key.partition('.')[2]}=v5e:4x4")
    kind, _, topology = text.partition(":")
    if kind not in _KINDS:
        raise ClipinError(
            f"{key} is {shorten(text)!r}: give a chip and a topology, such as v5e:4x4; "
            f"{did_you_mean(kind, _KINDS)}"
        )
    if _KINDS[kind].is_flat:
        if topology not in _FLAT:
            raise ClipinError(
                f"{key} is {shorten(text)!r}: topologies of {kind} are "
                f"{', '.join(_FLAT)}"
            )
    elif topology not in _SMALL_CUBES and not _is_of_cubes(topology):
        raise ClipinError(
            f"{key} is {shorten(text)!r}: topologies of {kind} are "
            f"{', '.join(_SMALL_CUBES)}, and larger ones of multiples of {_CUBE}, the "
            "smallest first, such as 4x4x8"
        )
    return Slice(kind, topology)


def _is_of_cubes(topology: str) -> bool:
    if not re.fullmatch(r"\d{1,3}x\d{1,3}x\d{1,3}", topology):
        return False
    sizes = [int(size) for size in topology.split("x")]
    is_multiple = all(size and size % _CUBE == 0 for size in sizes)
    return is_multiple and sizes == sorted(sizes)
