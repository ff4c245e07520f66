"""The step learns, skips updates that are not finite, and heeds its options."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.config import load_config
from clipin_jax.core.parameter_paths import path_name
from clipin_jax.core.step import make_health_fn, make_train_step
from clipin_jax.errors import ClipinError
from clipin_jax.inference.encode_fns import make_encode_fns
from clipin_jax.objectives.health import collapse_warning
from clipin_jax.runs.build import build_experiment
from tests.support.tiny import tiny_batch, tiny_config


def run_of(*overrides, clipin=True):
    return build_experiment(tiny_config(*overrides, clipin=clipin), jax.devices()[:1])


def step_of(run):
    return jax.jit(make_train_step(run.learner, run.optimizer))


def test_a_batch_can_be_memorised():
    run = run_of("optim.learning_rate=0.003", "optim.weight_decay=0.0")
    step, state, batch = step_of(run), run.init_state(), tiny_batch(run.config)
    state, first = step(state, batch, run.hyper(0))
    for k in range(1, 60):
        state, metrics = step(state, batch, run.hyper(k))
    assert metrics["contrastive/loss"] < 0.1
    assert metrics["contrastive/image_to_text_accuracy"] == 1
    assert metrics["clipin/inter_loss"] < 0.5 * first["clipin/inter_loss"]
    assert state.step == 60


def test_an_update_that_is_not_finite_is_skipped_and_counted():
    run = run_of()
    step, state, batch = step_of(run), run.init_state(), tiny_batch(run.config)
    state, _ = step(state, batch, run.hyper(0))
    poison = jax.tree.map(np.array, batch)
    poison["view1"]["image"] = np.full(
        batch["view1"]["image"].shape, np.nan, np.float32
    )
    after, metrics = step(state, poison, run.hyper(1))
    assert not np.isfinite(metrics["loss"])
    assert (after.step, after.skipped, after.skipped_in_a_row) == (2, 1, 1)
    for part in (
        "params",
        "collections",
        "opt_state",
        "target_params",
        "target_collections",
    ):
        jax.tree.map(
            np.testing.assert_array_equal, getattr(after, part), getattr(state, part)
        )
    after, metrics = step(after, batch, run.hyper(2))
    assert np.isfinite(metrics["loss"])
    assert (after.skipped, after.skipped_in_a_row) == (1, 0)


def loss_of(run, batch, state=None):
    _, metrics = step_of(run)(state or run.init_state(), batch, run.hyper(0))
    return metrics


def test_target_view_same_ignores_the_second_view():
    batch = tiny_batch(tiny_config())
    other = {"view1": batch["view1"], "view2": tiny_batch(tiny_config(), 9)["view2"]}
    same = run_of("objectives.clipin.target_view=same")
    assert loss_of(same, batch)["loss"] == loss_of(same, other)["loss"]
    second = run_of()
    assert loss_of(second, batch)["loss"] != loss_of(second, other)["loss"]


def test_symmetric_is_the_mean_of_both_directions():
    batch = tiny_batch(tiny_config())
    swapped = {"view1": batch["view2"], "view2": batch["view1"]}
    forth = loss_of(run_of(), batch)
    back = loss_of(run_of(), swapped)
    both = loss_of(run_of("target.symmetric=True"), batch)
    for name in ("loss", "contrastive/loss", "clipin/inter_loss"):
        np.testing.assert_allclose(
            both[name], (forth[name] + back[name]) / 2, rtol=1e-5
        )


@pytest.mark.slow
def test_one_term_alone():
    batch = tiny_batch(tiny_config())
    inter = loss_of(run_of('objectives.clipin.terms=("inter",)'), batch)
    both = loss_of(run_of(), batch)
    np.testing.assert_allclose(
        inter["clipin/inter_loss"], both["clipin/inter_loss"], rtol=1e-5
    )
    assert "clipin/intra_loss" not in inter
    with pytest.raises(ClipinError, match="terms is"):
        run_of('objectives.clipin.terms=("outer",)')


@pytest.mark.slow
def test_learned_weights_decrease():
    config = load_config("clipin_coco:as_released,runlocal", ("batch_size=16",))
    run = build_experiment(config, jax.devices()[:1])
    step, state = step_of(run), run.init_state()
    for k in range(3):
        state, metrics = step(state, tiny_batch(config, k), run.hyper(k))
    assert 0.99 < metrics["contrastive/weight"] < 1
    assert 0.99 < metrics["clipin/intra_weight"] < 1
    assert metrics["clipin/inter_weight"] == 1


def test_target_decay_may_be_a_schedule():
    spec = "{'schedule': 'cosine', 'start': 0.9, 'end': 1.0, 'total_steps': 10}"
    run = run_of(f"target.decay={spec}")
    assert abs(run.hyper(0)["target"]["decay"] - 0.9) < 1e-6
    assert run.hyper(10)["target"]["decay"] == 1
    frozen, _ = step_of(run)(run.init_state(), tiny_batch(run.config), run.hyper(10))
    start = run.init_state().target_params
    jax.tree.map(np.testing.assert_array_equal, frozen.target_params, start)


def test_health_names_every_alarm():
    run = run_of()
    health = jax.jit(make_health_fn(run.learner, run.optimizer))(
        run.init_state(), tiny_batch(run.config)
    )
    for part in ("image_to_text", "text_to_image", "image_to_image", "text_to_text"):
        for kind in ("shuffled_margin", "cosine", "spread", "alignment", "accuracy"):
            assert np.isfinite(health[f"clipin/{part}/{kind}"])
    for part in ("online_image", "online_text", "target_image", "target_text"):
        for kind in ("spread", "effective_rank", "uniformity"):
            assert np.isfinite(health[f"clipin/{part}/{kind}"])
    assert np.isfinite(health["clipin/modality_gap"])


def test_encoders_give_unit_embeddings_and_features_before_the_pre_projector():
    run = run_of()
    encode, state = make_encode_fns(run.learner), run.init_state()
    view = tiny_batch(run.config)["view1"]
    image = encode.image(state.variables, view["image"])
    text = encode.text(state.variables, view["text"])
    for out in (image, text):
        np.testing.assert_allclose(
            jnp.linalg.norm(out["embedding"], axis=-1), 1, rtol=1e-5
        )
        assert out["pooled"].shape == (16, 32)
        assert out["pooled"].dtype == jnp.float32


def test_a_collapsed_branch_is_reported():
    run = run_of()
    health = jax.jit(make_health_fn(run.learner, run.optimizer))
    state, batch = run.init_state(), tiny_batch(run.config)
    assert collapse_warning(jax.device_get(health(state, batch))) is None

    def constant_output(path, leaf):
        """Last layers of projectors and predictors with a constant output."""
        name = path_name(path)
        if "objectives_clipin" not in name or "/out/" not in name:
            return leaf
        return jnp.zeros_like(leaf) if name.endswith("kernel") else jnp.ones_like(leaf)

    collapsed = dataclasses.replace(
        state,
        params=jax.tree_util.tree_map_with_path(constant_output, state.params),
        target_params=jax.tree_util.tree_map_with_path(
            constant_output, state.target_params
        ),
    )
    numbers = jax.device_get(health(collapsed, batch))
    assert "collapsed" in (collapse_warning(numbers) or "")
    assert numbers["clipin/target_image/spread"] < 1e-3
    assert numbers["clipin/image_to_text/cosine"] > 0.999
