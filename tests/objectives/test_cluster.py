"""Agreement on clusters: the formula against loops, its optima, and its heads."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.inference.encode_fns import make_encode_fns
from clipin_jax.objectives.cluster import Cluster
from clipin_jax.objectives.losses import entropy_of_mean, soft_cross_entropy
from tests.support.objective_inputs import objective_inputs
from tests.support.small_learner import (
    BATCH,
    make_batch,
    make_hyper,
    make_learner,
    start_state,
    step,
)

B, K, P = 6, 5, 7
HYPER = {"weight": 1.0, "sharpness_weight": 0.5, "smoothness_weight": 1.3}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


class Given(Cluster):
    """The objective on logits that are given: heads that change nothing."""

    def setup(self):
        self.image_head = self.text_head = lambda shared, train: shared


def loss_of(image, text, hyper=HYPER):
    """Loss and metrics for logits [B, K] of both modalities."""
    features = {"image": {"shared": image}, "text": {"shared": text}}
    inputs = objective_inputs(features, hyper=hyper)
    out: Any = Given(num_clusters=image.shape[-1]).apply({}, inputs)
    return out


def softmax(x):
    powers = [np.exp(v - max(x)) for v in x]
    return [v / sum(powers) for v in powers]


def slow_entropy(p):
    return -sum(v * np.log(v) for v in p)


def slow_terms(image, text):
    """Alignment, sharpness and smoothness, spelt out."""
    p, q = [softmax(row) for row in image], [softmax(row) for row in text]
    rows, classes = image.shape
    alignment = sharpness = 0.0
    for i in range(rows):
        for k in range(classes):
            alignment -= p[i][k] * np.log(q[i][k]) / 2 / rows
            alignment -= q[i][k] * np.log(p[i][k]) / 2 / rows
        sharpness += (slow_entropy(p[i]) + slow_entropy(q[i])) / 2 / rows
    means = [[sum(r[k] for r in x) / rows for k in range(classes)] for x in (p, q)]
    return alignment, sharpness, (slow_entropy(means[0]) + slow_entropy(means[1])) / 2


def slow_loss(image, text):
    alignment, sharpness, smoothness = slow_terms(image, text)
    return (
        alignment
        + HYPER["sharpness_weight"] * sharpness
        - HYPER["smoothness_weight"] * smoothness
    )


def random_logits(seed=0):
    return 2 * np.random.default_rng(seed).standard_normal((2, B, K))


def one_hot(assignment):
    """Logits of rows that are sure of their cluster: log(0) stands at -800."""
    return jnp.where(jnp.asarray(assignment)[:, None] == jnp.arange(K), 0.0, -800.0)


def test_terms_against_a_loop():
    image, text = random_logits()
    loss, metrics = loss_of(image, text)
    alignment, sharpness, smoothness = slow_terms(image, text)
    np.testing.assert_allclose(metrics["alignment"], alignment, rtol=1e-12)
    np.testing.assert_allclose(metrics["sharpness"], sharpness, rtol=1e-12)
    np.testing.assert_allclose(metrics["smoothness"], smoothness, rtol=1e-12)
    np.testing.assert_allclose(loss, slow_loss(image, text), rtol=1e-12)
    both = metrics["image_entropy"] + metrics["text_entropy"]
    np.testing.assert_allclose(both / 2, sharpness, rtol=1e-12)


@pytest.mark.parametrize("side", [0, 1])
def test_gradient_through_both_arguments(side):
    """Against central differences of the loop."""
    logits = random_logits(1)
    grads = jax.grad(lambda x: loss_of(*x)[0])(jnp.asarray(logits))
    for i, k in np.ndindex(B, K):
        step = np.zeros_like(logits)
        step[side, i, k] = 1e-5
        slope = (slow_loss(*(logits + step)) - slow_loss(*(logits - step))) / 2e-5
        np.testing.assert_allclose(grads[side, i, k], slope, rtol=1e-6, atol=1e-9)


def test_balanced_confident_assignments_are_the_optimum():
    logits = one_hot(np.arange(3 * K) % K)
    loss, metrics = loss_of(logits, logits)
    np.testing.assert_allclose(metrics["alignment"], 0, atol=1e-12)
    np.testing.assert_allclose(metrics["sharpness"], 0, atol=1e-12)
    np.testing.assert_allclose(metrics["smoothness"], np.log(K), rtol=1e-12)
    np.testing.assert_allclose(metrics["text_used_clusters"], K, rtol=1e-12)
    np.testing.assert_allclose(loss, -HYPER["smoothness_weight"] * np.log(K))
    for seed in range(5):
        assert loss_of(*random_logits(seed))[0] > loss
    grads = jax.grad(lambda x: loss_of(x, x)[0])(logits)
    np.testing.assert_allclose(grads, 0, atol=1e-12)  # and finite


def test_without_smoothness_a_single_cluster_is_optimal():
    logits = one_hot(np.full(B, 2))
    hyper = HYPER | {"smoothness_weight": 0.0}
    loss, metrics = loss_of(logits, logits, hyper)
    np.testing.assert_allclose(loss, 0, atol=1e-12)
    np.testing.assert_allclose(metrics["image_used_clusters"], 1, rtol=1e-12)
    for seed in range(5):
        assert loss_of(*random_logits(seed), hyper)[0] > 0


def test_the_loss_of_equal_assignments_for_all_pairs():
    logits = np.tile(random_logits()[0][:1], (B, 1))
    loss, metrics = loss_of(logits, logits)
    factor = 1 + HYPER["sharpness_weight"] - HYPER["smoothness_weight"]
    np.testing.assert_allclose(loss, factor * metrics["image_entropy"], rtol=1e-12)


def test_smoothness_is_bounded_by_sharpness_and_batch():
    image, text = random_logits(2)
    metrics = loss_of(image, text)[1]
    assert metrics["sharpness"] <= metrics["smoothness"]
    assert metrics["smoothness"] <= metrics["sharpness"] + np.log(B)


def test_modalities_and_the_order_of_pairs_do_not_matter():
    image, text = random_logits(3)
    loss = loss_of(image, text)[0]
    np.testing.assert_allclose(loss_of(text, image)[0], loss, rtol=1e-12)
    order = np.random.default_rng(0).permutation(B)
    np.testing.assert_allclose(loss_of(image[order], text[order])[0], loss, rtol=1e-12)
    assert abs(loss_of(image, text[order])[0] - loss) > 1e-3


def test_half_precision_logits_give_float32_losses():
    logits = jnp.asarray(random_logits()[0], jnp.bfloat16)
    assert entropy_of_mean(logits).dtype == jnp.float32
    p = jax.nn.softmax(logits.astype(jnp.float32))
    assert soft_cross_entropy(logits, p).dtype == jnp.float32
    head = Cluster(num_clusters=K, hidden_dim=4, dtype=jnp.bfloat16)
    features = {"image": {"shared": logits}, "text": {"shared": logits}}
    out, _ = head.init_with_output(
        jax.random.key(0), features, True, method=Cluster.logits
    )
    assert out["image"].dtype == jnp.float32


def test_head_is_linear_norm_gelu_linear():
    x = np.random.default_rng(0).standard_normal((B, P))
    double = dict(dtype=jnp.float64, param_dtype=jnp.float64)
    objective = Cluster(num_clusters=K, hidden_dim=8, **double)
    features = {"image": {"shared": x}}
    variables = objective.init(
        jax.random.key(0), features, False, method=Cluster.logits
    )
    got, _ = objective.apply(
        variables, features, True, method=Cluster.logits, mutable=["batch_stats"]
    )
    p = jax.device_get(variables["params"]["image_head"])
    h = x @ p["hidden"]["kernel"] + p["hidden"]["bias"]
    h = (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-5) * p["norm"]["scale"]
    h = jax.nn.gelu(h + p["norm"]["bias"], approximate=False)
    expected = h @ p["out"]["kernel"] + p["out"]["bias"]
    np.testing.assert_allclose(got["image"], expected, rtol=1e-10)


def test_trains_and_embeds_without_a_joint_space():
    """Clusters alone, which are the space of evaluation too."""
    with jax.enable_x64(False):
        learner = make_learner(cluster=Cluster(num_clusters=K, hidden_dim=8))
        towers = learner.towers.clone(embed_dim=0)
        learner = learner.clone(towers=towers, embedding_from="cluster")
        batch, hyper = make_batch(), make_hyper(learner)
        taken = step(learner, start_state(learner, batch, hyper), batch, hyper)
        assert np.isfinite(taken.metrics["loss"])
        assert 1 <= taken.metrics["cluster/image_used_clusters"] <= K + 1e-3
        encode = make_encode_fns(learner)
        variables, view = taken.state.variables, batch["view1"]
        image = encode.image(variables, view["image"])["embedding"]
        text = encode.text(variables, view["text"])["embedding"]
    assert image.shape == text.shape == (BATCH, K) and image.dtype == jnp.float32
    np.testing.assert_allclose(jnp.linalg.norm(image, axis=-1), 1, rtol=1e-6)
    assert np.min(image @ text.T) >= 0  # a coefficient of two distributions
