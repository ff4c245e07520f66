"""Every optimizer of `OPTIMIZERS` descends and resumes, with rates as inputs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from clipin_jax.core.optimizer_chain import Optimizer
from clipin_jax.core.optimizers import OPTIMIZERS
from tests.support.small_learner import by_path, through_bytes

PARAMS = {
    "head": {"kernel": jnp.linspace(-1, 1, 12).reshape(3, 4), "bias": jnp.zeros(4)},
    "scale": jnp.ones(()),
}
GOAL = jax.tree.map(lambda x: x + 0.5, PARAMS)


def make_hyper(learning_rate: float) -> Any:
    rates = dict(learning_rate=learning_rate, weight_decay=0.01)
    return {"optim": {k: jnp.asarray(v, jnp.float32) for k, v in rates.items()}}


def distance(params: Any) -> jax.Array:
    return optax.tree.norm(optax.tree.sub(params, GOAL), squared=True)


def take_step(optimizer: Optimizer, params: Any, state: Any, hyper: Any) -> Any:
    grads = jax.grad(distance)(params)
    updates, state = optimizer(hyper).update(grads, state, params)
    return optax.apply_updates(params, updates), state


@pytest.fixture(scope="module", params=sorted(OPTIMIZERS))
def optimizer(request) -> Optimizer:
    return Optimizer(rule=OPTIMIZERS[request.param])


def test_descends_jits_and_resumes(optimizer):
    step = jax.jit(take_step, static_argnums=0)
    hyper = make_hyper(0.05)
    before = PARAMS, optimizer(hyper).init(PARAMS)
    for _ in range(3):
        before = step(optimizer, *before, hyper)
    params, state = before
    after = step(optimizer, params, state, hyper)
    assert distance(after[0]) < distance(params) < distance(PARAMS)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(after))

    expected = by_path(after)
    again = step(optimizer, *through_bytes((params, state)), hyper)
    for path, x in by_path(again).items():
        np.testing.assert_array_equal(x, expected[path], err_msg=path)
    unjitted = take_step(Optimizer(rule=optimizer.rule), params, state, hyper)
    for path, x in by_path(unjitted).items():
        np.testing.assert_allclose(x, expected[path], rtol=1e-4, atol=1e-5)

    # Other rates run the same program: a sweep compiles once.
    programs = step._cache_size()
    stopped, _ = step(optimizer, params, state, make_hyper(0.0))
    assert step._cache_size() == programs
    for path, x in by_path(stopped).items():
        np.testing.assert_allclose(x, by_path(params)[path], rtol=1e-6)
