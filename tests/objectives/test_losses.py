"""The formulas against slow loops, and their known values."""

import jax
import jax.numpy as jnp
import numpy as np

from clipin_jax.models.layers import unit
from clipin_jax.objectives import health
from clipin_jax.objectives.losses import (
    Mean,
    cosine_regression,
    diagonal_accuracy,
    mask_logits,
    soft_cross_entropies,
    softmax_contrastive,
    token_cross_entropies,
)


def directions(seed, rows=12, width=40):
    return unit(jax.random.normal(jax.random.key(seed), (rows, width)))


def test_softmax_contrastive_against_a_loop():
    logits = np.asarray(jax.random.normal(jax.random.key(0), (5, 5))) * 3
    total = 0.0
    for i in range(5):
        row = -logits[i, i] + np.log(sum(np.exp(logits[i, j]) for j in range(5)))
        column = -logits[i, i] + np.log(sum(np.exp(logits[j, i]) for j in range(5)))
        total += (row + column) / 2 / 5
    np.testing.assert_allclose(softmax_contrastive(logits), total, rtol=1e-5)


def test_label_smoothing_spreads_a_share_over_all_candidates_that_are_not_masked():
    logits = np.asarray(jax.random.normal(jax.random.key(0), (5, 5))) * 3
    pairs = np.eye(5, dtype=bool)
    out = np.zeros((5, 5), bool)
    out[0, 1] = out[1, 0] = True
    total = 0.0
    for table in (logits, logits.T):
        for i in range(5):
            given = [j for j in range(5) if not out[i, j]]
            log_sum = np.log(sum(np.exp(table[i, j]) for j in given))
            share = {j: 0.2 / len(given) + 0.8 * (i == j) for j in given}
            total += sum(s * (log_sum - table[i, j]) for j, s in share.items()) / 10
    masked = mask_logits(logits, out)
    np.testing.assert_allclose(softmax_contrastive(masked, None, 0.2), total, rtol=1e-5)
    plain = softmax_contrastive(logits)
    np.testing.assert_allclose(softmax_contrastive(logits, pairs), plain, rtol=1e-6)


def test_softmax_contrastive_of_logits_of_zero():
    np.testing.assert_allclose(
        softmax_contrastive(jnp.zeros((64, 64))), np.log(64), rtol=1e-6
    )


def test_the_contrastive_loss_ignores_the_order_of_the_batch():
    image, text = directions(0), directions(1)
    order = np.random.default_rng(0).permutation(12)
    shuffled = softmax_contrastive(image[order] @ text[order].T)
    np.testing.assert_allclose(shuffled, softmax_contrastive(image @ text.T), rtol=1e-6)


def test_cosine_regression_from_equal_to_opposite():
    x = directions(0)
    np.testing.assert_allclose(cosine_regression(x, x), 0, atol=1e-6)
    np.testing.assert_allclose(cosine_regression(x, -x), 2, atol=1e-6)


def test_unit_of_zero_is_zero_with_a_finite_gradient():
    value, grad = jax.value_and_grad(lambda x: unit(x).sum())(jnp.zeros((2, 3)))
    assert value == 0
    assert np.isfinite(grad).all()


def test_unit_of_half_precision_is_float32():
    x = unit(jax.random.normal(jax.random.key(0), (4, 8), jnp.bfloat16))
    assert x.dtype == jnp.float32
    np.testing.assert_allclose(jnp.linalg.norm(x, axis=-1), 1, rtol=1e-6)


def test_token_cross_entropies_are_averaged_over_the_mask():
    logits = np.asarray(jax.random.normal(jax.random.key(0), (2, 3, 7)))
    labels = np.array([[1, -100, 6], [-100, 0, -100]])
    mask = labels >= 0
    scores = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    places = [(0, 0, 1), (0, 2, 6), (1, 1, 0)]
    plain = np.mean([-scores[place] for place in places])
    loss = Mean.of(token_cross_entropies(logits, labels), mask)
    np.testing.assert_allclose(loss.value, plain, rtol=1e-5)
    uniform = np.mean([-scores[b, i].mean() for b, i, _ in places])
    smooth = Mean.of(token_cross_entropies(logits, labels, 0.1), mask)
    np.testing.assert_allclose(smooth.value, 0.9 * plain + 0.1 * uniform, rtol=1e-5)


def test_soft_cross_entropies_of_hard_labels_are_the_plain_ones():
    logits = jax.random.normal(jax.random.key(0), (4, 3, 7))
    labels = jax.random.randint(jax.random.key(1), (4, 3), 0, 7)
    soft = soft_cross_entropies(logits, jax.nn.one_hot(labels, 7))
    plain = token_cross_entropies(logits, labels)
    np.testing.assert_allclose(soft, plain, rtol=1e-5)


def test_an_empty_mask_gives_a_loss_and_gradient_of_zero():
    logits, labels = jnp.ones((2, 3, 7)), jnp.full((2, 3), -100)
    for losses in (
        lambda x: token_cross_entropies(x, labels, 0.1),
        lambda x: soft_cross_entropies(x, jnp.ones_like(x) / 7),
    ):
        value, grad = jax.value_and_grad(
            lambda x, losses=losses: Mean.of(losses(x), labels >= 0).value
        )(logits)
        assert value == 0 and np.all(grad == 0)


def test_diagonal_accuracy():
    assert diagonal_accuracy(jnp.eye(4)) == 1
    assert diagonal_accuracy(jnp.roll(jnp.eye(4), 1, axis=0)) == 0


def test_health_of_uniform_and_of_collapsed_embeddings():
    sphere = directions(0, rows=256, width=512)
    point = jnp.tile(directions(1, rows=1, width=512), (256, 1))
    assert abs(health.spread(sphere) - 1) < 0.02
    assert health.spread(point) < 1e-3
    assert health.effective_rank(sphere) > 0.7
    assert health.effective_rank(point) < 0.01
    assert health.uniformity(sphere) < -3.9
    assert abs(health.uniformity(point)) < 1e-3
    assert health.alignment(sphere, sphere) == 0
    assert health.modality_gap(sphere, sphere) == 0


def test_effective_rank_counts_directions():
    basis = jnp.eye(4, 64)
    rows = jnp.concatenate([basis, -basis] * 8)  # 64 rows in four equal directions
    np.testing.assert_allclose(health.effective_rank(rows) * 63, 4, rtol=1e-3)


def test_uniformity_against_a_loop():
    x = np.asarray(directions(0, rows=6))
    pairs = [
        np.exp(-2 * np.sum((x[i] - x[j]) ** 2))
        for i in range(6)
        for j in range(6)
        if i != j
    ]
    np.testing.assert_allclose(health.uniformity(x), np.log(np.mean(pairs)), rtol=1e-4)


def test_the_margin_of_equal_rows_is_zero():
    x = directions(0)
    point = jnp.tile(x[:1], (12, 1))
    assert health.shuffled_margin(x, x) > 0.8
    assert abs(health.shuffled_margin(point, point)) < 1e-6


def test_a_collapsed_model_gives_a_warning_and_an_untrained_one_none():
    def metrics(cosine, margin):
        return {
            "clipin/image_to_text/cosine": cosine,
            "clipin/image_to_text/shuffled_margin": margin,
            "clipin/modality_gap": 0.1,
        }

    assert "collapsed" in (health.collapse_warning(metrics(0.99, 0.001)) or "")
    assert "image_to_text" in (health.collapse_warning(metrics(0.99, 0.001)) or "")
    assert health.collapse_warning(metrics(0.0, 0.0)) is None
    assert health.collapse_warning(metrics(0.95, 0.4)) is None
