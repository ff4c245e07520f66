"""Keeps image features: many evaluators of a suite encode the same images."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

Features = dict[str, np.ndarray]


class FeatureCache:
    """Features by function, source and batch size, for the latest variables.

    It keeps references to sources and variables. New variables drop all features of
    the same function.

    Args:
      max_bytes: bound of the memory; the oldest features are dropped first.
    """

    def __init__(self, max_bytes: int = 2**31) -> None:
        self._max_bytes = max_bytes
        self._features: OrderedDict[tuple[Any, int, int], tuple[Any, Features]] = (
            OrderedDict()
        )
        self._leaves: dict[Any, list[Any]] = {}

    def get(
        self,
        function: Callable,
        variables: Any,
        source: Any,
        batch_size: int,
        *,
        encode: Callable[[], Features],
    ) -> Features:
        """Returns features from the cache, else those of `encode()`, which it keeps.

        Args:
          function: computes the features; compared by identity.
          variables: a pytree, whose leaves are compared by identity.
          source: compared by identity.
          batch_size: of the batches.
        """
        self._drop_stale(function, variables)
        key = function, id(source), batch_size
        if key not in self._features:
            # The reference to the source keeps its id from being used again.
            self._features[key] = source, encode()
        features = dict(self._features[key][1])
        while self._bytes() > self._max_bytes:
            self._features.popitem(last=False)
        return features

    def _drop_stale(self, function: Callable, variables: Any) -> None:
        leaves, latest = jax.tree.leaves(variables), self._leaves.get(function, [])
        if len(leaves) != len(latest) or any(map(operator.is_not, leaves, latest)):
            for key in [key for key in self._features if key[0] is function]:
                del self._features[key]
            self._leaves[function] = leaves

    def _bytes(self) -> int:
        kept = (features for _, features in self._features.values())
        return sum(array.nbytes for features in kept for array in features.values())
