"""Copies of the parameters that a step computes with: in its dtype, on every device.

Parameters are kept in float32, and may be split over the devices. A layer would convert
and gather its matrices each time that it runs: forward, again in the backward pass, in
the target branch. Copies are made once in a step, so that devices send half precision.
"""

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from clipin_jax.core.parameter_paths import Params, map_paths
from clipin_jax.types import Array

# What layers convert to their dtype; norms and scales stay as they are.
_CONVERTED = re.compile(r"(kernel|embedding)$")


class ComputeCopies(NamedTuple):
    """Makes the copies; hashable, so that equal ones share compiled programs.

    Attributes:
      dtype: of matrices and tables; None for that of the parameters.
      gather: whether every device gets whole copies.
    """

    dtype: Any = None
    gather: bool = False

    def __call__(self, params: Params) -> Params:
        """Returns the copies; with neither option, the parameters."""
        if self.dtype is None and not self.gather:
            return params
        return map_paths(self._copy, params)

    def _copy(self, path: str, leaf: Array) -> Array:
        floats = jnp.issubdtype(leaf.dtype, jnp.floating)
        if self.dtype is not None and floats and _CONVERTED.search(path):
            leaf = leaf.astype(self.dtype)
        if self.gather and jax.sharding.get_abstract_mesh().axis_names:
            leaf = jax.lax.with_sharding_constraint(leaf, PartitionSpec())
        return leaf
