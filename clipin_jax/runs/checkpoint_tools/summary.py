"""What a checkpoint holds, counted by the parts of the state."""

from collections.abc import Mapping
from typing import NamedTuple

from clipin_jax.runs.checkpoint_tools.saved_checkpoint import ArrayInfo

COUNTERS = "counters"  # the part of single numbers such as the step


class Part(NamedTuple):
    """The arrays of one part.

    Attributes:
      arrays: how many there are.
      numbers: how many they have; in "params" and "target_params", parameters.
      bytes: what they take in memory.
    """

    arrays: int
    numbers: int
    bytes: int


def count_parts(arrays: Mapping[str, ArrayInfo]) -> dict[str, Part]:
    """Returns the parts of a state, such as "params", with their sizes.

    Args:
      arrays: name -> form; the name begins with the part.
    """
    groups: dict[str, dict[str, ArrayInfo]] = {}
    for name, array in arrays.items():
        part = name.partition("/")[0] if "/" in name else COUNTERS
        groups.setdefault(part, {})[name] = array
    return {part: count(group) for part, group in groups.items()}


def count(arrays: Mapping[str, ArrayInfo]) -> Part:
    """Returns the sizes of some arrays together."""
    return Part(
        arrays=len(arrays),
        numbers=sum(array.size for array in arrays.values()),
        bytes=sum(array.num_bytes for array in arrays.values()),
    )
