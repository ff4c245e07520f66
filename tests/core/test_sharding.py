"""One device, eight devices, split parameters, two processes: the same numbers."""

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import NamedTuple

import jax
import numpy as np
import pytest

from clipin_jax.core import sharding
from clipin_jax.errors import ClipinError
from clipin_jax.runs.build import build_experiment
from clipin_jax.runs.train_program import jit_train_step
from tests.support.tiny import tiny_batch, tiny_config

STEPS = 2
LAYOUTS = {
    "data": ("mesh.data=8", "mesh.fsdp=1"),
    "zero1": ("mesh.dcn=2", "sharding.preset=zero1", "sharding.min_mib=0"),
    "fsdp": (
        "mesh.data=2",
        "mesh.fsdp=4",
        "sharding.preset=fsdp",
        "sharding.min_mib=0",
    ),
    "fsdp+zero1": (
        "mesh.dcn=2",
        "mesh.fsdp=2",
        "sharding.preset=fsdp+zero1",
        "sharding.min_mib=0",
    ),
}


def train(*overrides, devices=None):
    run = build_experiment(tiny_config("batch_size=32", *overrides), devices)
    with jax.set_mesh(run.mesh):
        state = run.init_state()
        step = jit_train_step(run)
        losses = []
        for k in range(STEPS):
            batch = sharding.put(tiny_batch(run.config, seed=k), run.mesh)
            state, metrics = step(state, batch, run.hyper(k))
            losses.append(float(metrics["loss"]))
    return state, losses


@pytest.fixture(scope="module")
def alone():
    state, losses = train(devices=jax.devices()[:1])
    return jax.device_get(state), losses


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param("data", marks=pytest.mark.slow),
        pytest.param("zero1", marks=pytest.mark.slow),
        pytest.param("fsdp", marks=pytest.mark.slow),
        "fsdp+zero1",
    ],
)
def test_eight_devices_equal_one(alone, layout):
    state, losses = train(*LAYOUTS[layout])
    expected_state, expected_losses = alone
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    # Batch statistics are means over the global batch, not over a share of it.
    for ours, expected in zip(
        jax.tree.leaves((state.collections, state.target_collections)),
        jax.tree.leaves(
            (expected_state.collections, expected_state.target_collections)
        ),
        strict=True,
    ):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_fsdp_splits_parameters_and_moments():
    state, _ = train(*LAYOUTS["fsdp"])
    kernel = state.params["towers"]["image"]["patch_embed"]["kernel"]
    assert kernel.addressable_shards[0].data.size == kernel.size // 4
    moments = jax.tree.leaves(state.opt_state)
    assert any(m.size and m.addressable_shards[0].data.size < m.size for m in moments)


CHILD = """
import sys
import jax
process, port = int(sys.argv[1]), sys.argv[2]
jax.config.update("jax_num_cpu_devices", 4)
jax.distributed.initialize(f"127.0.0.1:{port}", 2, process)
import numpy as np
from jax._src import distributed
from clipin_jax.core import sharding
from clipin_jax.core.step import make_train_step
from clipin_jax.runs.build import build_experiment
from tests.support.tiny import tiny_batch, tiny_config
run = build_experiment(tiny_config("batch_size=32"))
with jax.set_mesh(run.mesh):
    state = run.init_state()
    step = jax.jit(
        make_train_step(run.learner, run.optimizer),
        out_shardings=(run.state_sharding, sharding.replicated(run.mesh)),
    )
    batches = [
        sharding.put(
            jax.tree.map(
                lambda x: np.split(x, 2)[process], tiny_batch(run.config, seed=k)
            ),
            run.mesh,
        )
        for k in range(2)
    ]
    step = step.lower(state, batches[0], run.hyper(0)).compile()
    # Collectives wait for 30 s, and one process may compile for longer.
    distributed.global_state.client.wait_at_barrier("compiled", 240_000)
    for k in range(2):
        state, metrics = step(state, batches[k], run.hyper(k))
        print("loss", float(metrics["loss"]), flush=True)
"""


def test_two_processes_equal_one(alone, repository, unused_port):
    env = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": str(repository)}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(process), str(unused_port)],
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        for process in range(2)
    ]
    try:
        outputs = [child.communicate(timeout=300)[0] for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert [child.returncode for child in children] == [0, 0]
    for output in outputs:
        losses = [
            float(line.split()[1]) for line in output.splitlines() if "loss" in line
        ]
        np.testing.assert_allclose(losses, alone[1], rtol=1e-5)


@pytest.fixture
def unused_port():
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def test_batch_that_devices_cannot_share():
    mesh = sharding.make_mesh(-1, 1)
    with pytest.raises(ClipinError, match="batch_size = 12 .* 8 devices: use 8 or 16"):
        sharding.check_batch_size(12, mesh)


def test_mesh_that_does_not_fit():
    with pytest.raises(ClipinError, match="do not fit 8 devices"):
        sharding.make_mesh(3, 2)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (dict(dcn=3), "mesh.dcn = 3 does not divide 8 devices: give the number"),
        (dict(dcn=0), "mesh.dcn = 0 does not divide 8 devices"),
        (dict(dcn=-2), "mesh.dcn = -2 does not divide 8 devices"),
        (dict(dcn=2, data=8), "data = 8 and mesh.fsdp = 1 do not fit 4 devices in eac"),
    ],
)
def test_slices_that_do_not_fit(sizes, message):
    with pytest.raises(ClipinError, match=message) as error:
        sharding.make_mesh(**(dict(data=-1, fsdp=1) | sizes))
    assert "\n" not in str(error.value)


def test_the_state_is_split_within_a_slice_and_batches_over_all():
    mesh = sharding.make_mesh(data=-1, fsdp=2, dcn=2)
    assert dict(mesh.shape) == {"dcn": 2, "data": 2, "fsdp": 2}
    assert list(mesh.devices.flat) == jax.devices()  # no slices: as they come
    kernel = np.zeros((16, 64))
    for preset in sharding.PRESETS:
        place = sharding.infer_sharding({"kernel": kernel}, mesh, preset=preset)
        assert "dcn" not in str(place["kernel"].spec)
    batch = sharding.put(kernel, mesh)
    assert batch.addressable_shards[0].data.shape == (2, 64)


class Tpu(NamedTuple):
    """A device of a slice, as its makers number them."""

    id: int
    slice_index: int
    platform: str = "tpu"
    device_kind: str = "made up"
    process_index: int = 0


def test_devices_of_a_slice_are_together(monkeypatch):
    devices = [Tpu(id, slice_index=1 - id % 2) for id in range(8)]
    assert sharding.count_slices(devices) == 2
    for dcn in (1, 4):
        message = f"mesh.dcn = {dcn}, but the devices have 2 slice.s.: set mesh.dcn = 2"
        with pytest.raises(ClipinError, match=message):
            sharding.make_mesh(-1, 1, devices, dcn=dcn)
    kinds = []

    def record(devices, axes, axis_types):
        kinds.append([[[d.slice_index for d in row] for row in x] for x in devices])

    monkeypatch.setattr(sharding, "Mesh", record)
    monkeypatch.setattr(jax, "make_mesh", laid_out)
    sharding.make_mesh(-1, 2, devices, dcn=2)
    assert kinds == [[[[0, 0], [0, 0]], [[1, 1], [1, 1]]]]
    # GPUs number their hosts likewise: one mesh may have all of them.
    gpus = [device._replace(platform="gpu") for device in devices]
    assert sharding.count_slices(gpus) == 1
    sharding.make_mesh(-1, 8, gpus)
    assert kinds[1] == [[[0] * 4 + [1] * 4]]


def laid_out(shape, axes, devices):
    """As `jax.make_mesh`, of devices that jax does not know."""
    grid = np.empty(len(devices), object)
    grid[:] = devices
    return SimpleNamespace(devices=grid.reshape(shape))


def test_rules_come_before_the_preset_and_small_arrays_are_whole():
    mesh = sharding.make_mesh(data=4, fsdp=2)
    tree = {
        "params": {"kernel": np.zeros((16, 64)), "odd": np.zeros((3, 5))},
        "opt_state": {"kernel": np.zeros((16, 64)), "bias": np.zeros(64)},
    }
    rules = (("params/", "fsdp"),)
    placed = sharding.infer_sharding(tree, mesh, preset="zero1", rules=rules)
    specs = jax.tree.map(lambda place: tuple(place.spec), placed)
    both = ("data", "fsdp")
    assert specs["params"] == {"kernel": (None, "fsdp"), "odd": ()}
    assert specs["opt_state"] == {"kernel": (None, both), "bias": (both,)}
    placed = sharding.infer_sharding(tree, mesh, preset="zero1", min_mib=0.005)
    assert tuple(placed["opt_state"]["bias"].spec) == ()
    assert tuple(placed["opt_state"]["kernel"].spec) == (None, both)


def test_rules_are_checked():
    mesh = sharding.make_mesh(-1, 1)
    tree = {"kernel": np.zeros((4, 4))}
    with pytest.raises(ClipinError, match="preset is 'zero': did you mean 'zero1'"):
        sharding.infer_sharding(tree, mesh, preset="zero")
    with pytest.raises(ClipinError, match="sharding.rules is 'shard'.*known: all, fsd"):
        sharding.infer_sharding(tree, mesh, rules=((".*", "shard"),))
