"""Features of images kept for the evaluators that follow, as in a suite.

Zero-shot, neighbours, few shots and probes read the same features of the same images.
"""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from clipin_jax.inference.encoder import Compared, Encoder, Features

KEPT_BYTES = 2**31


class RememberingEncoder(Encoder):
    """An encoder that sees each source once; the oldest make room for the newest.

    It holds on to the sources, and to the arrays that each kind of features was made
    with last: others make it forget that kind.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept: OrderedDict[tuple[str, int, int], tuple[Any, Features]] = (
            OrderedDict()
        )
        self._leaves: dict[str, list[Any]] = {}
        self._ways: dict[str, Compared] = {}

    def images(self, variables: Any, source: Any, batch_size: int) -> Features:
        """As of `Encoder`."""
        return self._once("images", super().images, variables, source, batch_size)

    def compared(self, similarity: str) -> Compared:
        """As of `Encoder`; each way is compiled once."""
        if similarity not in self._ways:
            way = super().compared(similarity)

            def make(*seen: Any) -> Features:
                return {"embedding": way.images(*seen)}

            def images(state: Any, source: Any, batch_size: int) -> np.ndarray:
                if similarity == "contrastive":
                    return self.images(state.variables, source, batch_size)["embedding"]
                seen = state, source, batch_size
                return self._once(similarity, make, *seen)["embedding"]

            self._ways[similarity] = way._replace(images=images)
        return self._ways[similarity]

    def _once(
        self, kind: str, make: Callable[..., Features], arrays: Any, source: Any, n: int
    ) -> Features:
        """What `make(arrays, source, n)` returns, or returned for the same before."""
        leaves = jax.tree.leaves(arrays)
        before = self._leaves.get(kind, [])
        if len(leaves) != len(before) or any(map(operator.is_not, leaves, before)):
            for key in [key for key in self._kept if key[0] == kind]:
                del self._kept[key]
            self._leaves[kind] = leaves
        key = kind, id(source), n
        if key in self._kept:
            return dict(self._kept[key][1])
        features = make(arrays, source, n)
        self._kept[key] = source, features
        while self._bytes() > KEPT_BYTES:
            self._kept.popitem(last=False)
        return dict(features)

    def _bytes(self) -> int:
        held = (features for _, features in self._kept.values())
        return sum(array.nbytes for features in held for array in features.values())
