"""Schedules, masks, bounds, and that a sweep compiles once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.core.optimizers import make_optimizer
from clipin_jax.core.schedules import make_schedule
from clipin_jax.core.step import make_train_step
from clipin_jax.errors import ClipinError
from clipin_jax.runs.build import build_experiment
from tests.parity.torch_names import load
from tests.support.tiny import tiny_batch, tiny_config


def test_schedule_of_the_release(golden_folder):
    arrays, _ = load(golden_folder, "lr_schedules.npz")
    schedule = make_schedule(
        "optim.learning_rate",
        dict(
            schedule="warmup_cosine",
            peak=3e-5,
            warmup_steps=100,
            total_steps=16_200,
            end=0.0,
        ),
    )
    ours = [schedule(int(step)) for step in arrays["clipin/step"]]
    np.testing.assert_allclose(ours, arrays["clipin/lr"], rtol=1e-12, atol=1e-20)
    first = arrays["clipin/lr_first_130"]
    np.testing.assert_allclose(
        [schedule(step) for step in range(len(first))], first, rtol=1e-12
    )


def test_cosine_is_byols_decay():
    schedule = make_schedule(
        "target.decay", dict(schedule="cosine", start=0.96, end=1.0, total_steps=100)
    )
    for step in (0, 13, 50, 100, 150):
        k = min(step, 100)
        expected = 1 - (1 - 0.96) * (np.cos(np.pi * k / 100) + 1) / 2
        assert abs(schedule(step) - expected) < 1e-12


@pytest.mark.parametrize(
    "spec, message",
    [
        ("fast", "give a number or a schedule"),
        (dict(schedule="step"), "schedule 'step' is none of"),
        (dict(schedule="cosine", start=1.0), "optim.learning_rate: .*missing"),
    ],
)
def test_what_is_no_schedule(spec, message):
    with pytest.raises(ClipinError, match=message):
        make_schedule("optim.learning_rate", spec)


def optimizer_config(**changes):
    config = tiny_config().optim.copy_and_resolve_references()
    with config.unlocked():
        config.update(changes)
    return config


def numbers(learning_rate=0.1, weight_decay=0.0):
    return {"optim": dict(learning_rate=learning_rate, weight_decay=weight_decay)}


def test_decay_spares_what_the_mask_names():
    params = {"dense": {"kernel": jnp.ones(2), "bias": jnp.ones(2)}, "logit_scale": 1.0}
    config = optimizer_config(no_decay=(r"bias$", r"logit_scale$"), clip_norm=0.0)
    tx = make_optimizer(config)(numbers(weight_decay=0.5))
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(zero, tx.init(params), params)
    np.testing.assert_allclose(updates["dense"]["kernel"], -0.1 * 0.5, rtol=1e-6)
    np.testing.assert_array_equal(updates["dense"]["bias"], 0)
    assert updates["logit_scale"] == 0


def test_bounds_hold_after_the_step():
    params = {"logit_scale": jnp.array(4.6), "other": jnp.array(4.6)}
    tx = make_optimizer(optimizer_config(clip_norm=0.0))(numbers())
    grads = {"logit_scale": jnp.array(-1.0), "other": jnp.array(-1.0)}
    updates, _ = tx.update(grads, tx.init(params), params)
    moved = jax.tree.map(jnp.add, params, updates)
    np.testing.assert_allclose(moved["logit_scale"], 4.6052, rtol=1e-6)
    assert moved["other"] > 4.69


def test_a_sweep_compiles_the_step_once():
    """Learning rate, decay, loss weights and target decay are inputs of the step."""
    run = build_experiment(tiny_config(), jax.devices()[:1])
    step = jax.jit(make_train_step(run.learner, run.optimizer))
    state, batch = run.init_state(), tiny_batch(run.config)
    losses = []
    for point in (
        (),
        ("optim.learning_rate.peak=0.1", "optim.weight_decay=0.5"),
        ("objectives.clipin.inter_weight=3.0", "target.decay=0.5"),
    ):
        hyper = build_experiment(tiny_config(*point), jax.devices()[:1]).hyper
        _, metrics = step(state, batch, hyper(0))
        losses.append(float(metrics["loss"]))
    assert step._cache_size() == 1
    assert losses[0] == losses[1] != losses[2]
