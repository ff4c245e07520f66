"""Copies of parameters in half precision, made once in a step, change nothing."""

import jax
import numpy as np
import pytest

from clipin_jax.core import sharding
from clipin_jax.core.compute_copies import ComputeCopies
from clipin_jax.core.step import make_train_step
from clipin_jax.errors import ClipinError
from clipin_jax.runs.build import build_experiment
from clipin_jax.runs.train_program import jit_train_step
from tests.support.tiny import tiny_batch, tiny_config


@pytest.mark.slow
@pytest.mark.parametrize("scan_layers", [False, True])
def test_half_precision_with_copies_has_the_loss_without(scan_layers):
    overrides = "model.dtype=bfloat16", f"model.scan_layers={scan_layers}"
    run = build_experiment(tiny_config(*overrides), jax.devices()[:1])
    batch = tiny_batch(run.config, seed=0)
    results = []
    with jax.set_mesh(run.mesh):
        state = run.init_state()
        for copies in (ComputeCopies(), ComputeCopies(jax.numpy.bfloat16)):
            step = make_train_step(run.learner, run.optimizer, copies=copies)
            _, metrics = jax.jit(step)(state, batch, run.hyper(0))
            results.append(jax.device_get(metrics))
    plain, copied = results
    assert plain["loss"] == copied["loss"]
    np.testing.assert_allclose(plain["grad_norm"], copied["grad_norm"], rtol=2e-3)


def test_copies_are_whole_and_norms_stay_in_float32():
    mesh = sharding.make_mesh(-1, 1)
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(("data",)))
    params = {"linear": {"kernel": np.ones((8, 8)), "bias": np.ones(8)}}
    params = jax.device_put(jax.tree.map(np.float32, params), split)
    with jax.set_mesh(mesh):
        make = ComputeCopies(jax.numpy.bfloat16, gather=True)
        copies = jax.jit(lambda params: make(params))(params)
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(copies))
    dtypes = {name: str(leaf.dtype) for name, leaf in copies["linear"].items()}
    assert dtypes == {"kernel": "bfloat16", "bias": "float32"}


def test_an_option_that_the_compiler_does_not_know_is_one_line():
    run = build_experiment(tiny_config("compiler_options={'xla_no_such': 1}"))
    with pytest.raises(ClipinError, match="refuses compiler_options.*xla_no_such") as e:
        jit_train_step(run)
    assert "\n" not in str(e.value)
    known = "compiler_options={'xla_cpu_enable_fast_math': False}"
    jit_train_step(build_experiment(tiny_config(known)))
