"""Runs a forward pass whose attention weights can be read and changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from clipin_jax.models.attention.taps import RECORDED, TAPS
from clipin_jax.types import Array

Forward = Callable[[Any, Array, Array], Any]  # (bound learner, image, text) -> output


class Layer(NamedTuple):
    """An attention layer.

    Attributes:
      path: of its tap in the tree of variables; the last part is the kind, `self` or
        `cross`.
      shape: of its weights, [B, heads, N, M].
      index: of the layer in a scanned stack; None outside of a stack.
      stack: number of layers in the stack.
    """

    path: tuple[str, ...]
    shape: tuple[int, ...]
    index: int | None = None
    stack: int = 0


class AttentionProbe:
    """A forward pass with taps at its attention weights, see `attention_tap`.

    Other layers compute as in evaluation.
    """

    def __init__(
        self, learner: Any, forward: Forward, variables: Any, image: Array, text: Array
    ) -> None:
        def apply(variables: Any, mutable: list[str]) -> tuple[Any, Any]:
            return learner.apply(
                variables, image, text, method=forward, mutable=mutable
            )

        self._apply, self._variables = apply, variables
        taps = jax.eval_shape(lambda v: apply(v, [TAPS])[1], variables)
        self._shapes = {
            tuple(str(key.key) for key in path): leaf.shape
            for path, leaf in jax.tree_util.tree_leaves_with_path(taps[TAPS])
        }

    def layers(self, tower: str, parts: Sequence[str], kind: str = "") -> list[Layer]:
        """Returns the attention layers of some parts of a tower, in order.

        Args:
          tower: `image` or `text`.
          parts: names of modules in the tower, in order; () for all.
          kind: `self` or `cross`; "" for both.
        """
        layers = []
        for path, shape in self._shapes.items():
            is_wanted = path[:2] == ("towers", tower) and path[-1].startswith(kind)
            if not is_wanted or (parts and path[2] not in parts):
                continue
            order = parts.index(path[2]) if parts else 0
            order = order, [int(number) for number in re.findall(r"\d+", str(path))]
            stack = shape[0] if len(shape) == 5 else 0
            layers += [
                ((*order, index), Layer(path, shape[1:], index, stack))
                for index in range(stack)
            ] or [((*order, 0), Layer(path, shape))]
        return [layer for _, layer in sorted(layers, key=lambda item: item[0])]

    def run(
        self, layers: Sequence[Layer], offsets: Sequence[Array]
    ) -> tuple[Any, list]:
        """Runs the pass with `offsets` added to the weights of `layers`.

        Returns the output, and the weights of each layer.
        """
        taps: dict[str, Any] = {}
        for layer, offset in zip(layers, offsets, strict=True):
            inner = taps
            for name in layer.path[:-1]:
                inner = inner.setdefault(name, {})
            if layer.index is not None:
                stack = jnp.zeros((layer.stack, *layer.shape), offset.dtype)
                offset = inner.get(layer.path[-1], stack).at[layer.index].set(offset)
            inner[layer.path[-1]] = offset
        out, state = self._apply({**self._variables, TAPS: taps}, [RECORDED])
        return out, [_weights(state[RECORDED], layer) for layer in layers]

    def weights(self, layers: Sequence[Layer]) -> list[Array]:
        """Returns the attention weights of layers, each [B, heads, N, M]."""
        return self.run(layers, [jnp.zeros(layer.shape) for layer in layers])[1]


def _weights(tree: Any, layer: Layer) -> Array:
    for name in layer.path:
        tree = tree[name]
    return tree[-1] if layer.index is None else tree[-1][layer.index]
