"""Builds an experiment from a config: mesh, learner, optimizer, shapes of the state."""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from clipin_jax.config import check_lists, check_types
from clipin_jax.core import sharding
from clipin_jax.core.device_views import DRAWN, make_views
from clipin_jax.core.freezing import frozen_modules
from clipin_jax.core.learner import build
from clipin_jax.core.micro_batches.checks import check_micro_batches
from clipin_jax.core.optimizer_chain import Optimizer, make_optimizer
from clipin_jax.core.schedules import make_hyper
from clipin_jax.core.state import TrainState, create_state
from clipin_jax.errors import ClipinError
from clipin_jax.types import Hyper

# Equal configs get the same functions, which jax compiles once in a process.
_CACHED_FUNCTIONS = 32


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that is built from a config before the first array exists.

    Attributes:
      config: of the run.
      mesh: the devices, see `core.sharding.AXES`.
      learner: towers and objectives, a flax module.
      optimizer: hyper -> optax transformation.
      hyper: step -> hyper-parameters of that step, see `types.Hyper`.
      abstract_state: the train state as `jax.ShapeDtypeStruct` with shardings.
      abstract_batch: what the host sends in a step, in the same form.
      init_state: returns the state of step 0, placed on the mesh.
      views: host batch -> batch with its views, for data that are augmented on devices.
    """

    config: ConfigDict
    mesh: Mesh
    learner: Any
    optimizer: Optimizer
    hyper: Callable[[int], Hyper]
    abstract_state: TrainState
    abstract_batch: Any
    init_state: Callable[[], TrainState]
    views: Callable[[Any], Any]

    @property
    def state_sharding(self) -> TrainState:
        """Returns the sharding of each leaf of the state."""
        return jax.tree.map(lambda leaf: leaf.sharding, self.abstract_state)

    @property
    def abstract_hyper(self) -> Any:
        """Returns the hyper-parameters of a step in the form of `abstract_state`."""
        place = sharding.replicated(self.mesh)
        return jax.tree.map(lambda leaf: _placed(leaf, place), self.hyper(0))

    @property
    def micro_batches(self) -> int:
        """Returns how many pieces of a device's rows the towers run on, one by one."""
        return self.config.get("micro_batches", 1)  # that of a run from before is 1

    @property
    def num_params(self) -> int:
        """Returns the number of parameters; those of the target do not count."""
        return _count(self.abstract_state.params)

    @property
    def num_trained(self) -> int:
        """Returns the number of trained parameters; frozen ones do not count."""
        return _count(self.optimizer.split(self.abstract_state.params)[0])

    @property
    def size(self) -> dict[str, int]:
        """Returns the numbers of parameters, by what a run's folder calls them."""
        return {"parameters": self.num_params, "trained": self.num_trained}


def _count(params: Any) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


class BatchShape(NamedTuple):
    """The shape of a training batch, in full size, so that errors occur at the start.

    Attributes:
      batch_size: pairs, over all devices.
      image_size: height and width in pixels.
      channels: of an image.
      context_length: tokens of a text.
      views: their names.
      masked: whether views also have masked texts.
      canvas: side in pixels of the images that the host sends, if the devices make the
        views; 0 if the host does.
    """

    batch_size: int
    image_size: tuple[int, int]
    channels: int
    context_length: int
    views: tuple[str, ...]
    masked: bool
    canvas: int = 0

    def zeros(self) -> dict[str, dict[str, Any]]:
        """Returns zeros for tracing; the initial state does not depend on them."""
        return {name: self._view() for name in self.views}

    def _view(self) -> dict[str, Any]:
        text = jnp.zeros((self.batch_size, self.context_length), np.int32)
        ids = jnp.zeros(self.batch_size, np.int32)
        shape = (self.batch_size, *self.image_size, self.channels)
        image = jnp.zeros(shape, np.uint8)
        view = {"image": image, "text": text, "image_id": ids, "text_id": ids}
        masked = {"masked_text": text, "masked_labels": text}
        return view | masked if self.masked else view

    def from_host(self) -> dict[str, Any]:
        """Returns zeros of what the host sends in each step."""
        views = self.zeros()
        if not self.canvas:
            return views
        drawn = jnp.zeros((self.batch_size, len(DRAWN)), np.float32)
        shape = (self.batch_size, self.canvas, self.canvas, self.channels)
        for name, view in views.items():
            rest = {key: value for key, value in view.items() if key != "image"}
            views[name] = rest | {"drawn": drawn}
        return views | {"canvas": jnp.zeros(shape, np.uint8)}


def build_experiment(
    config: ConfigDict, devices: Sequence[Any] | None = None
) -> Experiment:
    """Builds an experiment from its config.

    Args:
      config: of a run.
      devices: of the mesh; all devices if None.

    Raises:
      ClipinError: the config is wrong, or does not fit the devices.
    """
    check_lists(config)
    check_types(config)
    _check_counts(config)
    mesh = sharding.make_mesh(**config.mesh, devices=devices)
    sharding.check_batch_size(config.batch_size, mesh)
    # Flax modules are hashable, which type checkers do not know.
    learner: Any = build(config)
    hyper = make_hyper(config, learner.objectives)
    optimizer = make_optimizer(config.optim, learner.layer_order, learner.lora)

    shape = _batch_shape(config)
    init = _initializer(learner, optimizer, shape)
    numbers = hyper(0)
    with jax.set_mesh(mesh):
        shapes = jax.eval_shape(init, numbers)
    check_micro_batches(
        config.get("micro_batches", 1), config.batch_size, mesh.size,
        learner=learner, collections=shapes.collections,
        frozen=frozen_modules(*optimizer.split(shapes.params)),
    )  # fmt: skip
    placed = sharding.infer_sharding(shapes, mesh, **config.sharding)
    placed_init = jax.jit(init, out_shardings=placed)
    return Experiment(
        config=config,
        mesh=mesh,
        learner=learner,
        optimizer=optimizer,
        hyper=hyper,
        abstract_state=jax.tree.map(_placed, shapes, placed),
        abstract_batch=jax.tree.map(
            lambda leaf: _placed(leaf, sharding.batch_sharding(mesh)),
            jax.eval_shape(shape.from_host),
        ),
        init_state=functools.partial(placed_init, numbers),
        views=_view_maker(config),
    )


def program_key(config: ConfigDict) -> Hashable:
    """Returns what the compiled training step depends on, equal for runs that share it.

    Learning rates, weight decay, loss weights and seeds are inputs of the step.

    Raises:
      ClipinError: the model, the objectives or the optimizer are wrong.
    """
    learner: Any = build(config)
    optimizer = make_optimizer(config.optim, learner.layer_order, learner.lora)
    groups = (config[name] for name in ("mesh", "sharding", "compiler_options"))
    return (
        learner, optimizer, _batch_shape(config), _view_maker(config),
        config.get("micro_batches", 1), *(group.to_json() for group in groups),
    )  # fmt: skip


def _placed(leaf: Any, place: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)


@functools.lru_cache(_CACHED_FUNCTIONS)
def _initializer(learner: Any, optimizer: Optimizer, shape: BatchShape) -> Callable:
    """Returns `hyper -> state`; the same function for equal arguments."""

    def init(hyper: Hyper) -> TrainState:
        return create_state(learner, optimizer, shape.zeros(), hyper)

    return init


def _view_maker(config: ConfigDict) -> Callable[[Any], Any]:
    size = tuple(config.data.image_size)
    return _views(size, config.data.augment.interpolation)


@functools.lru_cache(_CACHED_FUNCTIONS)
def _views(size: tuple[int, int], interpolation: str) -> Callable[[Any], Any]:
    return functools.partial(make_views, size=size, interpolation=interpolation)


def _check_counts(config: ConfigDict) -> None:
    counts = dict.fromkeys(("batch_size", "total_steps", "max_nonfinite_steps"), 1)
    counts |= dict.fromkeys(("log_every_steps", "health_every_steps", "seed"), 0)
    for key, least in counts.items():
        if config[key] < least:
            raise ClipinError(f"{key} is {config[key]}: it must be at least {least}")


def _batch_shape(config: ConfigDict) -> BatchShape:
    for key in ("image_size", "context_length"):
        if np.size(config.data[key]) == 0 or np.min(config.data[key]) < 1:
            raise ClipinError(
                f"data.{key} is {config.data[key]}: it must be at least 1"
            )
    on_device = config.data.augment_on == "device"
    return BatchShape(
        batch_size=config.batch_size,
        image_size=tuple(config.data.image_size),
        channels=len(config.model.image_mean),
        context_length=config.data.context_length,
        views=("view1", "view2") if config.data.views == 2 else ("view1",),
        masked=bool(config.data.mask_probability),
        canvas=config.data.augment.resize_first if on_device else 0,
    )
