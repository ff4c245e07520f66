"""Low-rank adaptation of a tower, LoRA: small factors learn beside frozen matrices.

A linear layer with factors returns `x @ kernel + x @ a @ b * alpha / rank` (Hu et al.,
arXiv 2106.09685, section 4.1). `a` starts at random and `b` at zero: at step 0 the
model is the one without factors. They are parameters beside the kernel, so that
optimizer, checkpoints and target treat them like all others.
"""

import contextlib
import dataclasses
import math
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from clipin_jax import registry
from clipin_jax.core.parameter_paths import (
    Params,
    compile_pattern,
    flatten,
    paths_of,
    require_match,
    unflatten,
)
from clipin_jax.errors import ClipinError, check_range, first_few, shorten
from clipin_jax.models.layers import FACTOR_A, FACTOR_B, FACTOR_SCALE, Linear
from clipin_jax.types import Array

FACTORS = (FACTOR_A, FACTOR_B, FACTOR_SCALE)
# The matrices of attention and of perceptrons in the blocks of all our transformers.
BLOCKS = (
    r"(^|/)blocks(_\d+)?/(.+/)?"
    r"(qkv|query|key|value|query_in|key_in|value_in|out|mlp_in|mlp_out)$"
)


@dataclasses.dataclass(frozen=True)
class Lora:
    """The low-rank factors of a tower, and what else of it is trained.

    Attributes:
      modality: `image` or `text`.
      rank: width between the factors; 0 for none.
      alpha: the product of the factors is multiplied by alpha / rank.
      layers: pattern searched in the path of a linear layer inside the tower, such as
        `transformer/blocks_0/attention/qkv`; layers that it matches get factors.
      also_train: pattern of other parameters of the tower to train, such as `bias$`; ""
        for none.

    Raises:
      ClipinError: a rank below 0, an alpha that is not above 0, or a pattern that is no
        regular expression.
    """

    modality: str
    rank: int = 0
    alpha: float = 16.0
    layers: str = BLOCKS
    also_train: str = ""

    def __post_init__(self) -> None:
        check_range(f"{self.where}.rank", self.rank, 0, math.inf)
        if not (isinstance(self.alpha, int | float) and 0 < self.alpha < math.inf):
            raise ClipinError(
                f"{self.where}.alpha is {self.alpha}: give a number above 0"
            )
        for key in ("layers", "also_train"):
            compile_pattern(getattr(self, key), f"{self.where}.{key}")

    @property
    def where(self) -> str:
        """The config key, for messages."""
        return f"model.lora.{self.modality}"

    @property
    def tower(self) -> str:
        """The path of the tower's parameters, with a slash at its end."""
        return f"towers/{self.modality}/"

    @property
    def factors(self) -> str:
        """The pattern of the paths of factors, which weights of other models lack."""
        return rf"^{self.tower}.*/({'|'.join(FACTORS)})$"

    def adapts(self, layer: str) -> bool:
        """Whether a linear layer gets factors, by its path."""
        inside = layer.removeprefix(self.tower)
        return inside != layer and bool(re.search(self.layers, inside))

    def freezes(self, path: str) -> bool:
        """Whether a parameter is not trained: all of the tower but factors."""
        if not path.startswith(self.tower):
            return False
        inside = path.removeprefix(self.tower)
        name = inside.rpartition("/")[2]
        if name in FACTORS:
            return name == FACTOR_SCALE
        return not (self.also_train and re.search(self.also_train, inside))

    def check_paths(self, params: Params, is_frozen: Callable[[str], bool]) -> None:
        """Checks the parameters of a model, or their shapes.

        Args:
          params: of the model, with factors.
          is_frozen: path -> whether it is not trained, for whatever reason.

        Raises:
          ClipinError: `also_train` matches none of the tower, or all factors are
            frozen.
        """
        paths = [path for path in paths_of(params) if path.startswith(self.tower)]
        if self.also_train:
            inside = [path.removeprefix(self.tower) for path in paths]
            require_match(self.also_train, inside, f"{self.where}.also_train")
        if all(is_frozen(path) for path in paths if path.endswith(FACTOR_B)):
            raise ClipinError(
                f"optim.groups freezes the factors of {self.where}: set its rank to 0, "
                "or let the group leave them out"
            )


def make_lora(model: ConfigDict) -> tuple[Lora, ...]:
    """Returns the factors that `config.model.lora` describes; none of rank 0.

    Raises:
      ClipinError: a key that does not exist, or a value that it cannot have.
    """
    lora = []
    for modality, spec in model.get("lora", {}).items():  # a run from before has none
        where = f"model.lora.{modality}"
        registry.check_arguments(Lora, spec, where, filled=("modality",))
        lora.append(Lora(modality, **spec))
    return tuple(one for one in lora if one.rank)


@contextlib.contextmanager
def recording_layers() -> Iterator[set[str]]:
    """Yields the paths of linear layers that run in this context, as they run."""
    layers: set[str] = set()

    def record(
        method: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        if isinstance(context.module, Linear):
            layers.add("/".join(context.module.path))
        return method(*args, **kwargs)

    with nn.intercept_methods(record):
        yield layers


def check_layers(lora: Sequence[Lora], layers: Collection[str]) -> None:
    """Checks that each pattern matches one of the paths of linear layers.

    Raises:
      ClipinError: a pattern matches none of its tower.
    """
    for one in lora:
        if not any(map(one.adapts, layers)):
            inside = [p for p in sorted(layers) if p.startswith(one.tower)]
            names = first_few([path.removeprefix(one.tower) for path in inside])
            raise ClipinError(
                f"{one.where}.layers: {shorten(repr(one.layers))} matches no linear "
                f"layer of the tower, which has {names or 'none'}"
            )


def add_factors(
    params: Params, lora: Sequence[Lora], layers: Collection[str], key: Array
) -> Params:
    """Adds factors to the linear layers that a pattern matches.

    They are not made while the model is initialised, so that all other parameters are
    the same with and without them.

    Args:
      params: new ones of a model or of a part of it; layers may be stacked.
      lora: of each tower with factors.
      layers: the paths of linear layers, see `recording_layers`.
      key: of the random numbers, which also depend on the path of a layer.

    Returns:
      The parameters with `lora_a` [D, rank], normal with variance 1 / D; `lora_b`
      [rank, features], zero; and `lora_scale`, alpha / rank, beside each kernel.

    Raises:
      ClipinError: a rank above the rows or columns of a matrix.
    """
    if not lora:
        return params
    flat = flatten(params)
    for path in sorted(layers):
        kernel = flat.get(f"{path}/kernel")
        chosen = next((one for one in lora if one.adapts(path)), None)
        if chosen is None or kernel is None:
            continue
        *stack, rows, columns = kernel.shape
        rank, most = chosen.rank, min(rows, columns)
        if rank > most:
            raise ClipinError(
                f"{chosen.where}.rank is {rank}, but the matrix of {path} is {rows} x "
                f"{columns}: give at most {most}"
            )
        own_key = jax.random.fold_in(key, zlib.crc32(path.encode()))
        a = jax.random.normal(own_key, (*stack, rows, rank), kernel.dtype)
        flat[f"{path}/{FACTOR_A}"] = a * jnp.asarray(rows**-0.5, a.dtype)
        flat[f"{path}/{FACTOR_B}"] = jnp.zeros((*stack, rank, columns), kernel.dtype)
        scale = jnp.full(stack, chosen.alpha / rank, kernel.dtype)
        flat[f"{path}/{FACTOR_SCALE}"] = scale
    return unflatten(flat)


def merge_lora(params: Params) -> dict[str, Any]:
    """Adds the product of all factors to their kernels.

    Args:
      params: of a model or of a part of it, with or without factors; layers may be
        stacked. Not those of `TrainState.target_params` alone, which lack the frozen
        kernels: take `TrainState.target_variables`.

    Returns:
      The parameters of the same model without factors. A kernel is added up in at least
      float32 and keeps its dtype.
    """
    merged = {
        name: merge_lora(value) if isinstance(value, Mapping) else value
        for name, value in params.items()
        if name not in FACTORS
    }
    if FACTOR_A in params:
        kernel = params["kernel"]
        wide = jnp.promote_types(kernel.dtype, jnp.float32)
        a, b, scale = (jnp.asarray(params[name], wide) for name in FACTORS)
        product = jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
        total = kernel.astype(wide) + product * scale[..., None, None]
        merged["kernel"] = total.astype(kernel.dtype)
    return merged
