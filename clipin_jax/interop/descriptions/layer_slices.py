"""Weights of big_vision whose layers are stacked, as if each layer had arrays."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clipin_jax.errors import ClipinError, did_you_mean
from clipin_jax.interop.weights import Weights

_PREFIX = "params/"  # of a whole training state
_STACKED, _ONE = "/encoderblock/", "/encoderblock_{}/"


class LayerSlices:
    """Weights without the prefix of all names, and with stacked layers apart.

    `params/img/Transformer/encoderblock/LayerNorm_0/scale` [depth, D] becomes
    `img/Transformer/encoderblock_0/LayerNorm_0/scale` [D], and so on. What is not below
    `params/` in a file that has it, such as the optimizer's state, is left out. See
    `weights.Weights`.
    """

    def __init__(self, weights: Weights):
        """Takes weights of big_vision; reads no array."""
        self.origin: str = weights.origin
        self.metadata: Mapping[str, Any] = weights.metadata
        self._weights = weights
        self._places: dict[str, tuple[str, int | None]] = {}
        prefix = _PREFIX if any(map(_is_param, weights.names())) else ""
        for name in weights.names():
            if name.startswith(prefix):
                self._add(name, name.removeprefix(prefix))
        # Queries, keys and values of a layer are read in turns.
        self._read = functools.lru_cache(maxsize=3)(weights.read)

    def names(self) -> Sequence[str]:
        """Returns the names of all arrays, layer by layer."""
        return tuple(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of an array. Raises ClipinError if there is none."""
        whole, layer = self._place(name)
        return self._weights.shape(whole)[0 if layer is None else 1 :]

    def dtype(self, name: str) -> np.dtype:
        """Returns the dtype of an array. Raises ClipinError if there is none."""
        return self._weights.dtype(self._place(name)[0])

    def read(self, name: str) -> np.ndarray:
        """Returns an array. Raises ClipinError if there is none, or it is damaged."""
        whole, layer = self._place(name)
        if layer is None:
            return self._weights.read(whole)
        return self._read(whole)[layer].copy()

    def _add(self, whole: str, name: str) -> None:
        if _STACKED not in f"/{name}":
            self._places[name] = whole, None
            return
        for layer in range(self._weights.shape(whole)[0]):
            one = f"/{name}".replace(_STACKED, _ONE.format(layer), 1)
            self._places[one.removeprefix("/")] = whole, layer

    def _place(self, name: str) -> tuple[str, int | None]:
        if name not in self._places:
            known = did_you_mean(name, self._places)
            raise ClipinError(f"{self.origin} has no array {name!r}: {known}")
        return self._places[name]


def _is_param(name: str) -> bool:
    return name.startswith(_PREFIX)
