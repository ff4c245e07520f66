"""States with leaves of several types and shardings, saved and read again."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from clipin_jax.runs.checkpoint import Checkpoints


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    step: Any
    params: Any
    target: Any


def make_state(step: int, width: int = 16) -> State:
    mesh = jax.make_mesh((8,), ("fsdp",), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec("fsdp"))
    whole = NamedSharding(mesh, PartitionSpec())
    rng = np.random.default_rng(step)
    kernel = rng.standard_normal((64, width), np.float32)
    params = {
        "kernel": jax.device_put(kernel, split),
        "half": jax.device_put(jnp.asarray(kernel, jnp.bfloat16), whole),
    }
    return State(jax.device_put(np.int32(step), whole), params, {})


def shapes_of(state: State) -> State:
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def assert_equal(a: State, b: State) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype and x.sharding == y.sharding
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def latest(checkpoints: Checkpoints, abstract: Any) -> tuple[Any, dict, int]:
    restored = checkpoints.restore_latest(abstract)
    assert restored is not None
    return restored


def save_steps(folder: Path, steps: list[int], **options: Any) -> None:
    checkpoints = Checkpoints(folder, every_steps=1, keep_last=9, **options)
    for step in steps:
        assert checkpoints.save(step, make_state(step), {"position": step * 8})
    checkpoints.close()


def step_folders(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
