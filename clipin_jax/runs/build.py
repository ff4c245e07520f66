"""Everything that a config describes, built: mesh, learner, optimizer, state."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from clipin_jax.core import sharding
from clipin_jax.core.augment import make_views
from clipin_jax.core.learner import build
from clipin_jax.core.optimizers import Optimizer, make_optimizer
from clipin_jax.core.schedules import make_hyper
from clipin_jax.core.state import TrainState, create_state
from clipin_jax.errors import ClipinError
from clipin_jax.types import Hyper

_PROGRAMS = 32  # of equal parts that a process keeps, see `step`


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that is built from a config before the first array exists.

    Attributes:
      abstract_state: the train state as shapes with shardings.
      init_state: makes the state of step 0, placed on the mesh.
      views: makes the views of a batch where the data leaves that to the device.
      hyper: step -> the numbers of that step.
    """

    config: ConfigDict
    mesh: Mesh
    learner: Any
    optimizer: Optimizer
    hyper: Callable[[int], Hyper]
    abstract_state: TrainState
    init_state: Callable[[], TrainState]
    views: Callable[[Any], Any]

    @property
    def state_sharding(self) -> TrainState:
        """Where each leaf of the state lives."""
        return jax.tree.map(lambda leaf: leaf.sharding, self.abstract_state)

    @property
    def num_params(self) -> int:
        """Trained parameters; the target's averages are not counted."""
        leaves = jax.tree.leaves(self.abstract_state.params)
        return sum(int(np.prod(leaf.shape)) for leaf in leaves)


class Example(NamedTuple):
    """The shapes of a batch, full-size so that what refuses it does so at the start."""

    count: int
    size: tuple[int, int]
    channels: int
    length: int
    views: tuple[str, ...]
    masked: bool

    def batch(self) -> dict[str, dict[str, Any]]:
        """Zeros; no part is computed, since no initial state depends on a batch."""
        return {name: self._view() for name in self.views}

    def _view(self) -> dict[str, Any]:
        text = jnp.zeros((self.count, self.length), np.int32)
        ids = jnp.zeros(self.count, np.int32)
        image = jnp.zeros((self.count, *self.size, self.channels), np.uint8)
        view = {"image": image, "text": text, "image_id": ids, "text_id": ids}
        masked = {"masked_text": text, "masked_labels": text}
        return view | masked if self.masked else view


def build_experiment(
    config: ConfigDict, devices: Sequence[Any] | None = None
) -> Experiment:
    """Builds a run from its config, on all devices if none are given.

    Raises:
      ClipinError: what is wrong with the config, or it does not fit the devices.
    """
    _check_counts(config)
    mesh = sharding.make_mesh(**config.mesh, devices=devices)
    sharding.check_batch_size(config.batch_size, mesh)
    learner: Any = build(config)  # a flax module has a hash, unknown to type checkers
    hyper = make_hyper(config, learner.objectives)
    optimizer = make_optimizer(config.optim)

    init = _initializer(learner, optimizer, _example(config))
    numbers, seed = hyper(0), np.uint32(config.seed)
    with jax.set_mesh(mesh):
        shapes = jax.eval_shape(init, numbers, seed)
    placed = sharding.infer_sharding(shapes, config.sharding, mesh)
    abstract = jax.tree.map(
        lambda leaf, s: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=s),
        shapes,
        placed,
    )
    placed_init = jax.jit(init, out_shardings=placed)
    return Experiment(
        config, mesh, learner, optimizer, hyper, abstract,
        functools.partial(placed_init, numbers, seed), _view_maker(config),
    )  # fmt: skip


@functools.lru_cache(_PROGRAMS)
def _initializer(learner: Any, optimizer: Optimizer, example: Example) -> Callable:
    """`(hyper, seed) -> state`; the same function for equal arguments."""

    def init(hyper: Hyper, seed: np.uint32) -> TrainState:
        return create_state(learner, optimizer, example.batch(), hyper, seed)

    return init


def _view_maker(config: ConfigDict) -> Callable[[Any], Any]:
    size = tuple(config.model.image.image_size)
    return _views(size, config.data.augment.interpolation)


@functools.lru_cache(_PROGRAMS)
def _views(size: tuple[int, int], interpolation: str) -> Callable[[Any], Any]:
    return functools.partial(make_views, size=size, interpolation=interpolation)


def _check_counts(config: ConfigDict) -> None:
    counts = dict.fromkeys(("batch_size", "total_steps", "max_nonfinite_steps"), 1)
    counts |= dict.fromkeys(("log_every_steps", "health_every_steps", "seed"), 0)
    for key, least in counts.items():
        if config[key] < least:
            raise ClipinError(f"{key} is {config[key]}: it must be at least {least}")


def _example(config: ConfigDict) -> Example:
    return Example(
        config.batch_size,
        tuple(config.model.image.image_size),
        len(config.model.image_mean),
        config.data.context_length,
        ("view1", "view2") if config.data.views == 2 else ("view1",),
        bool(config.data.mask_probability),
    )
