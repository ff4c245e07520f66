"""A forward pass in which one can see and move what attention looks at."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from clipin_jax.models.layers import RECORDED, TAPS
from clipin_jax.types import Array

Forward = Callable[[Any, Array, Array], Any]  # of a bound learner, an image and a text


class Layer(NamedTuple):
    """Where attention is looked at.

    Attributes:
      path: of the zeros in the tree of variables; its last part is their kind.
      shape: [B, heads, N, M].
      place: which of a stack of layers that are a loop; None for one that is not.
      stack: how many of them there are.
    """

    path: tuple[str, ...]
    shape: tuple[int, ...]
    place: int | None = None
    stack: int = 0


class Probe:
    """A forward pass, some of whose attention can be seen and moved."""

    def __init__(
        self, learner: Any, forward: Forward, variables: Any, image: Array, text: Array
    ) -> None:
        def apply(variables: Any, mutable: list[str]) -> tuple[Any, Any]:
            return learner.apply(
                variables, image, text, method=forward, mutable=mutable
            )

        self._apply, self._variables = apply, variables
        listed = jax.eval_shape(lambda v: apply(v, [TAPS])[1], variables)
        self._found = {
            tuple(str(key.key) for key in path): leaf.shape
            for path, leaf in jax.tree_util.tree_leaves_with_path(listed[TAPS])
        }

    def layers(self, tower: str, parts: Sequence[str], kind: str = "") -> list[Layer]:
        """The layers of some parts of a tower, in the order of the pass.

        tower: `image` or `text`; parts: names inside it, in their order, none for all;
        kind: `self` or `cross`, "" for both.
        """
        found = []
        for path, shape in self._found.items():
            inside = path[:2] == ("towers", tower) and path[-1].startswith(kind)
            if not inside or (parts and path[2] not in parts):
                continue
            order = parts.index(path[2]) if parts else 0
            order = order, [int(number) for number in re.findall(r"\d+", str(path))]
            loops = shape[0] if len(shape) == 5 else 0
            found += [
                ((*order, place), Layer(path, shape[1:], place, loops))
                for place in range(loops)
            ] or [((*order, 0), Layer(path, shape))]
        return [layer for _, layer in sorted(found, key=lambda item: item[0])]

    def run(self, layers: Sequence[Layer], moves: Sequence[Array]) -> tuple[Any, list]:
        """The pass with something added to the weights of layers, and the weights."""
        taps: dict[str, Any] = {}
        for layer, move in zip(layers, moves, strict=True):
            inner = taps
            for name in layer.path[:-1]:
                inner = inner.setdefault(name, {})
            if layer.place is not None:
                stack = jnp.zeros((layer.stack, *layer.shape), move.dtype)
                move = inner.get(layer.path[-1], stack).at[layer.place].set(move)
            inner[layer.path[-1]] = move
        out, state = self._apply({**self._variables, TAPS: taps}, [RECORDED])
        return out, [_seen(state[RECORDED], layer) for layer in layers]

    def weights(self, layers: Sequence[Layer]) -> list[Array]:
        """What these layers look at, each [B, heads, N, M]."""
        return self.run(layers, [jnp.zeros(layer.shape) for layer in layers])[1]


def _seen(tree: Any, layer: Layer) -> Array:
    for name in layer.path:
        tree = tree[name]
    return tree[-1] if layer.place is None else tree[-1][layer.place]
