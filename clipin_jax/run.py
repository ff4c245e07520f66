"""What a config stands for: mesh, learner, state; and the folder of a run."""

import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from clipin_jax import sharding
from clipin_jax.augment import make_views
from clipin_jax.config import difference, from_json, to_json
from clipin_jax.errors import ClipinError
from clipin_jax.learner import build
from clipin_jax.optim import Optimizer, make_hyper, make_optimizer
from clipin_jax.state import TrainState, create_state
from clipin_jax.types import Hyper

# What may change when a run is resumed: it alters neither the model nor the data (whose
# fingerprint is compared, wherever the folder is now).
FREE_KEYS = (
    "checkpoint.", "data.allow_change", "data.max_bad_fraction",
    "data.prefetch_batches", "data.processes", "data.source.files",
    "data.source.folder", "data.source.index", "data.threads", "evals.",
    "health_every_steps", "log.", "log_every_steps", "max_nonfinite_steps", "mesh.",
    "sharding",
)  # fmt: skip
_PROGRAMS = 32  # of equal parts that a process keeps, see `step`
SHOWN = 5  # differing keys in a message
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


@dataclasses.dataclass(frozen=True)
class Run:
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


def build_run(config: ConfigDict, devices: Sequence[Any] | None = None) -> Run:
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
    return Run(
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


def open_folder(config: ConfigDict, workdir: Path) -> None:
    """Makes the run's folder, or checks that the one there is of the same config.

    Raises:
      ClipinError: the folder holds a run of another config, other files, or cannot be
        written.
    """
    saved = workdir / "config.json"
    if saved.is_file():
        _check_same(config, load_folder(workdir), workdir)
    elif workdir.is_dir() and any(workdir.iterdir()):
        raise ClipinError(
            f"{workdir} holds files but no config.json, so it is no run to resume: "
            "choose another --workdir, or empty it"
        )
    if jax.process_index():
        return
    write_file(saved, to_json(config))
    write_file(workdir / "config.yaml", str(ConfigDict(json.loads(to_json(config)))))
    write_file(workdir / "environment.json", json.dumps(environment(), indent=2))


def is_finished(config: ConfigDict, workdir: Path) -> bool:
    """Whether the run in a folder has reached its end.

    Raises:
      ClipinError: it has, and is of another config.
    """
    if not (workdir / "DONE").is_file():
        return False
    _check_same(config, load_folder(workdir), workdir)
    return True


def write_file(path: Path, content: str) -> None:
    """Writes a file of a run whole or not at all: a full disk must not cut the old one.

    Raises:
      ClipinError: it cannot be written.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(content)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise ClipinError(
            f"cannot write {path}: {error.strerror}; make room, or choose another "
            "--workdir"
        ) from error


def load_folder(workdir: Path) -> ConfigDict:
    """The config of the run in a folder.

    Raises:
      ClipinError: the folder holds no run, or its config is damaged.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise ClipinError(f"{workdir} is no run folder: it has no config.json")
    try:
        return from_json(path.read_text()).lock()
    except ValueError as error:
        raise ClipinError(f"{path} is damaged: {error}") from error


def _check_same(config: ConfigDict, saved: ConfigDict, workdir: Path) -> None:
    changed = {
        key: values
        for key, values in difference(saved, config).items()
        if not key.startswith(FREE_KEYS)
    }
    if not changed:
        return
    shown = list(changed.items())[:SHOWN]
    listed = "; ".join(f"{k}: {a!r} there, {b!r} now" for k, (a, b) in shown)
    more = f"; and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    raise ClipinError(
        f"{workdir} holds a run of another config ({listed}{more}): choose another "
        "--workdir to start anew, or repeat the command that made it to resume"
    )


def environment() -> dict[str, Any]:
    """Versions and devices, to explain a number later."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    devices = jax.devices()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "processes": jax.process_count(),
        **versions,
    }
