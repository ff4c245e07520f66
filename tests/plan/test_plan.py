"""Plans: what they say of a run, and wrong input."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from clipin_jax.commands.main import main
from clipin_jax.config import load_config
from clipin_jax.core import sharding
from clipin_jax.errors import ClipinError
from clipin_jax.plan import devices, planner, search
from clipin_jax.plan.machines import find_machine, peak_flops
from clipin_jax.plan.planner import make_plan
from clipin_jax.plan.table import plan_record, plan_table
from clipin_jax.runs.build import build_experiment
from clipin_jax.runs.train_program import jit_train_step
from clipin_jax.study.timed_step import random_state
from clipin_jax.training import loop

ON = find_machine("cpu:8")


@pytest.fixture(scope="module")
def plan():
    config = load_config("clip:clipin,runlocal", ["batch_size=32"])
    return make_plan(config, ON, jax.devices()[:8])


def test_a_plan_counts_the_state_of_a_device(plan):
    memory = plan.memory
    assert memory.optimizer - 2 * memory.params == 4  # two moments, and a count
    assert 0 < memory.target <= memory.params
    assert plan.fits and plan.devices == 8
    parts = memory.params + memory.optimizer + memory.target + memory.others
    assert memory.total >= parts + memory.batch + memory.temporaries


def test_a_plan_counts_products_and_collectives(plan):
    kinds = {one.kind for one in plan.collectives}
    assert "all-reduce" in kinds  # of gradients
    reduced = sum(c.total_bytes for c in plan.collectives if c.kind == "all-reduce")
    assert reduced >= plan.memory.params
    assert plan.flops > 6 * plan.memory.params / 4
    assert any(buffer.line for buffer in plan.buffers)
    assert plan.seconds > 0 and plan.images_per_second == 32 / plan.seconds


def test_the_table_and_the_record_say_the_same(plan):
    table, record = plan_table(plan), plan_record(plan)
    assert "8 devices, 32 pairs a step" in table and "fits" in table
    assert f"{record['memory']['params'] / 2**30:.3f} GiB" in table
    assert "modelled" in table
    assert json.loads(json.dumps(record)) == record
    assert record["network"] == {} and "other slices" not in table


@pytest.mark.parametrize("preset", ["replicate", "fsdp"])
def test_a_plan_compiles_the_program_that_a_run_compiles(preset):
    """Letter for letter: the compile cache finds a program by its text."""
    overrides = ["batch_size=32", f"sharding.preset={preset}", "mesh.fsdp=4"]
    experiment = build_experiment(load_config("clip:clipin,runlocal", overrides))
    batch = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype), experiment.abstract_batch
    )
    with jax.set_mesh(experiment.mesh):
        run = jit_train_step(experiment).lower(
            random_state(experiment.abstract_state),
            sharding.put(batch, experiment.mesh),
            sharding.PlacedNumbers(experiment.mesh).place(experiment.hyper(3)),
        )
    assert planner._lower(experiment, "cpu").as_text() == run.as_text()


@pytest.mark.slow
def test_a_run_reads_the_step_that_a_plan_has_compiled(tmp_path):
    arguments = ["clip:clipin,runlocal", "total_steps=1", "evals={}"]
    unset = ("JAX_COMPILATION_CACHE_DIR", "XLA_FLAGS")
    environment = {k: v for k, v in os.environ.items() if k not in unset}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "JAX_LOG_COMPILES": "1"}
    flag = "--xla_force_host_platform_device_count=4"
    run = ["train", *arguments, "--workdir", str(tmp_path / "run")]
    for command, add, expected in (
        (["plan", *arguments, "--on", "cpu:4"], {}, False),
        (run, {"XLA_FLAGS": flag}, True),
    ):
        ended = subprocess.run(
            [sys.executable, "-m", "clipin_jax", *command],
            env=environment | add, capture_output=True, text=True, check=True,
        )  # fmt: skip
        is_read = "cache hit for 'jit_train_step'" in ended.stderr
        assert is_read == expected, ended.stderr


@pytest.mark.slow
def test_splitting_the_state_takes_less_memory_and_more_collectives(plan):
    overrides = ["batch_size=32", "mesh.fsdp=8", "sharding.preset=fsdp"]
    overrides += ["sharding.min_mib=0"]
    config = load_config("clip:clipin,runlocal", overrides)
    split = make_plan(config, ON, jax.devices()[:8])
    assert split.memory.params < plan.memory.params / 4
    kinds = {one.kind for one in split.collectives}
    assert "all-gather" in kinds


def test_a_plan_of_slices_shows_what_crosses_them():
    shallow = "model.image.depth=1", "model.text.depth=1"
    config = load_config("clip:runlocal", ["batch_size=32", "mesh.dcn=2", *shallow])
    on = find_machine("2xcpu:4")
    plan = make_plan(config, on, jax.devices()[:8])
    record = plan_record(plan)
    assert record["slices"] == 2 and plan.bound == "network"
    gradients = record["network"]["all-reduce"]["bytes"]
    # The four devices of a slice share them.
    assert gradients == pytest.approx(plan.memory.params / 4, rel=0.05)
    assert "to other slices" in plan_table(plan)
    message = "mesh.dcn = 2, but cpu:8 has 1 slice.s.: set mesh.dcn=1"
    with pytest.raises(ClipinError, match=message):
        make_plan(config, ON, jax.devices()[:8])


def test_the_largest_batch_that_fits(plan, monkeypatch):
    def made(config, machine, devices, quick):
        memory = dataclasses.replace(plan.memory, limit=1000, total=config.batch_size)
        return dataclasses.replace(plan, memory=memory, batch_size=config.batch_size)

    monkeypatch.setattr(search, "make_plan", made)
    tried = []
    for start in (32, 4096):
        config = load_config("clip:runlocal", [f"batch_size={start}"])
        devices = jax.devices()[:8]
        best = search.largest_batch(config, ON, devices, report=tried.append)
        assert best.batch_size == 512
    assert [one.batch_size for one in tried[:6]] == [32, 64, 128, 256, 512, 1024]
    devices = devices * 256
    with pytest.raises(ClipinError, match="no batch fits cpu:8: 2048 pairs are too"):
        search.largest_batch(config, ON, devices)


@pytest.mark.parametrize(
    "name, message",
    [
        ("v5f:4x4", "--on is 'v5f:4x4': give a chip and how many.*did you mean"),
        ("v5e", "such as v5e:4x4"),
        ("cpu:0", "from 1 to"),
        ("cpu:2x2", "give the number of devices"),
        ("", "give a chip"),
        ("0xv5e:4x4", "--on is '0xv5e:4x4': give the number of slices, from 1 to"),
        ("2xv5f:4x4", "did you mean 'v5"),
        ("2x2xcpu:4", "and 2xv5e:4x4 for two slices"),
    ],
)
def test_a_machine_that_does_not_exist_is_one_line(name, message):
    with pytest.raises(ClipinError, match=message) as error:
        find_machine(name)
    assert "\n" not in str(error.value)


def test_chips_are_what_their_data_sheets_say():
    assert find_machine("v5e:4x4").chip.peak_flops == 197e12
    v4 = find_machine("v4:2x2x2").chip  # both cores are one device
    assert (v4.peak_flops, v4.memory_bytes) == (275e12, 30.75 * 2**30)
    two = find_machine("2xv5e:4x4")
    assert two == find_machine("v5e:4x4")._replace(name="2xv5e:4x4", slices=2)
    assert two.chip.network_bandwidth == 6.4e12 / 8 / 256  # of a pod, in bits
    assert find_machine("2xcpu:4").count == 8
    assert find_machine("gpu:8") == find_machine("h100:8")._replace(name="gpu:8")


@pytest.mark.parametrize(
    "kind, cores, tflops",
    [
        ("TPU v4", 1, 137.5),
        ("TPU v4", 2, 275),
        ("TPU v5 lite", 1, 197),
        ("TPU v5", 2, 459),
        ("TPU v6 lite", 1, 918),
        ("TPU7x", 1, 1153),
        ("NVIDIA H200", 1, 989.5),
        ("NVIDIA GH200 480GB", 1, 989.5),
        ("NVIDIA H100 80GB HBM3", 1, 989.5),
        ("NVIDIA H100 PCIe", 1, 756),
        ("NVIDIA A100-SXM4-80GB", 1, 312),
        ("NVIDIA L40S", 1, 362),
        ("NVIDIA RTX A1000", 1, None),
        ("cpu", 1, None),
    ],
)
def test_the_peak_of_a_device_that_is_there(kind, cores, tflops):
    peak = peak_flops(kind, cores)
    assert (peak and peak / 1e12) == tflops


@pytest.mark.parametrize("has_tpu", [False, True])
def test_the_compiler_is_silenced_only_without_a_tpu(has_tpu, tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_TPU_FILES", (str(tmp_path / "accel*"),))
    monkeypatch.delenv("TPU_WORKER_HOSTNAMES", raising=False)
    if has_tpu:
        (tmp_path / "accel0").touch()
    devices.silence_compiler_without_tpu()
    assert ("TPU_WORKER_HOSTNAMES" in os.environ) != has_tpu


def train_nothing():
    loop.train(load_config("clip:runlocal"), "", profile="no steps")


def plan_nothing():
    with devices.open_devices(find_machine("v5e:2x2")):
        pass


@pytest.mark.parametrize("start", [train_nothing, plan_nothing])
def test_the_compiler_is_silenced_for_callers_from_python(start, tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_TPU_FILES", (str(tmp_path / "accel*"),))
    monkeypatch.setattr(devices, "_QUIET", {"CLIPIN_TEST": "quiet"})
    monkeypatch.setattr(devices, "_tpu_devices", lambda machine: [])
    monkeypatch.setenv("CLIPIN_TEST", "")  # is restored after the test
    monkeypatch.delenv("CLIPIN_TEST")
    with contextlib.suppress(ClipinError):
        start()
    assert os.environ["CLIPIN_TEST"] == "quiet"


def test_what_does_not_fit_ends_with_1(capsys, monkeypatch):
    from clipin_jax.commands import plan as command

    chip = ON.chip._replace(memory_bytes=1000.0)
    monkeypatch.setattr(command, "prepare_environment", lambda machine: None)
    monkeypatch.setattr(command, "find_machine", lambda _: ON._replace(chip=chip))
    assert main(["plan", "clip:runlocal", "--on", "cpu:8"]) == 1
    assert "does NOT fit" in capsys.readouterr().out
