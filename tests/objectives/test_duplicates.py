"""Pairs with the same image or caption: masked, or positives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipin_jax.core import sharding
from clipin_jax.core.learner import Learner
from clipin_jax.models.layers import unit
from clipin_jax.objectives.contrastive import Contrastive
from clipin_jax.objectives.duplicates import apply_choice, find_duplicates
from clipin_jax.objectives.losses import (
    mask_logits,
    sigmoid_contrastive,
    softmax_contrastive,
)
from clipin_jax.objectives.momentum_contrastive import MomentumContrastive
from clipin_jax.objectives.sigmoid import Sigmoid
from tests.support.objective_inputs import objective_inputs

B, E = 6, 8
IMAGES = np.array([4, 0, 4, 1, 2, 3], np.int32)  # 0 and 2 are equal
TEXTS = np.array([9, 7, 8, 5, 7, 6], np.int32)  # 1 and 4 are equal
SAME = np.zeros((B, B), bool)
SAME[[0, 2, 1, 4], [2, 0, 4, 1]] = True
TREATMENTS = ("mask", "multi_positive")
ALL = ("ignore", *TREATMENTS)
QUEUED = ("momentum_contrastive",)
HOSTS = {
    "contrastive": Contrastive,
    "sigmoid": Sigmoid,
    "momentum_contrastive": MomentumContrastive,
}


def embeddings(seed, rows=B):
    keys = jax.random.split(jax.random.key(seed))
    return {
        m: unit(jax.random.normal(k, (rows, E)))
        for m, k in zip(("image", "text"), keys, strict=True)
    }


def ids(images=IMAGES, texts=TEXTS):
    return {"image_id": jnp.asarray(images), "text_id": jnp.asarray(texts)}


def distinct(rows=B):
    return ids(np.arange(rows, dtype=np.int32), np.arange(rows, dtype=np.int32))


def inputs(view, online=None, target=None, share=0.4):
    online, target = online or embeddings(0), target or embeddings(1)
    features = {m: {"embedding": x} for m, x in online.items()}
    hyper = {"weight": 1.0, "distillation": share}
    return objective_inputs(features, view=view, targets=target, hyper=hyper)


def host(name, choice="ignore", **options):
    if name in QUEUED:
        options = {"queue_length": 8, **options}
    return HOSTS[name](duplicates=choice, **options, name=name)


def loss_of(name, choice, call, **options):
    objective = host(name, choice, **options)
    variables = objective.init(jax.random.key(0), call)
    (loss, metrics), _ = objective.apply(variables, call, mutable=["queue"])
    return loss, metrics


def some_logits():
    return np.asarray(3 * jax.random.normal(jax.random.key(5), (B, B)))


def slow_softmax(logits, same, choice):
    """One way, the mean over rows."""
    total = 0.0
    for i, row in enumerate(logits):
        wrong = [j for j in range(len(row)) if j != i and not same[i, j]]
        twins = [j for j in range(len(row)) if j != i and same[i, j]]
        choices = [i, *wrong] + (twins if choice != "mask" else [])
        right = [i, *twins] if choice == "multi_positive" else [i]
        log_sum = np.log(sum(np.exp(float(row[j])) for j in choices))
        for j in right:
            total += (log_sum - row[j]) / len(right) / len(logits)
    return total


def slow_sigmoid(logits, same, choice):
    total = 0.0
    for i in range(B):
        for j in range(B):
            if choice == "mask" and same[i, j]:
                continue
            right = i == j or (choice == "multi_positive" and same[i, j])
            total += np.log(1 + np.exp(-logits[i, j] if right else logits[i, j])) / B
    return total


def test_duplicates_share_an_image_or_a_caption_and_no_pair_is_its_own():
    np.testing.assert_array_equal(find_duplicates(ids()), SAME)
    assert find_duplicates({}) is None


def test_a_negative_id_is_the_same_as_none():
    no_ids = np.full(B, -1, np.int32)
    assert not np.any(find_duplicates(ids(no_ids, no_ids)))
    np.testing.assert_array_equal(find_duplicates(ids(no_ids, TEXTS))[1, 4], True)


@pytest.mark.parametrize("choice", ALL)
def test_softmax_against_a_loop(choice):
    logits = some_logits()
    same = SAME if choice in TREATMENTS else None
    loss = softmax_contrastive(*apply_choice(choice, logits, same))
    ways = [slow_softmax(x, SAME, choice) for x in (logits, logits.T)]
    np.testing.assert_allclose(loss, np.mean(ways), rtol=1e-5)


@pytest.mark.parametrize("choice", ALL)
def test_sigmoid_against_a_loop(choice):
    logits = some_logits()
    same = SAME if choice in TREATMENTS else None
    loss = sigmoid_contrastive(*apply_choice(choice, logits, same))
    np.testing.assert_allclose(loss, slow_sigmoid(logits, SAME, choice), rtol=1e-5)


@settings(derandomize=True, max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2 * B, max_size=2 * B))
def test_any_batch_against_a_loop(numbers):
    view = ids(np.array(numbers[:B], np.int32), np.array(numbers[B:], np.int32))
    same, logits = np.asarray(find_duplicates(view)), some_logits()
    for choice in TREATMENTS:
        softmax = softmax_contrastive(*apply_choice(choice, logits, same))
        ways = [slow_softmax(x, same, choice) for x in (logits, logits.T)]
        np.testing.assert_allclose(softmax, np.mean(ways), rtol=1e-5)
        sigmoid = sigmoid_contrastive(*apply_choice(choice, logits, same))
        expected = slow_sigmoid(logits, same, choice)
        np.testing.assert_allclose(sigmoid, expected, rtol=1e-5)


@pytest.mark.parametrize("choice", TREATMENTS)
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_keys_of_batch_and_queue_against_a_loop(choice, share):
    """The second step: the first one's ids are in the queue by then."""
    length, earlier, now = 8, embeddings(2), embeddings(1)
    objective = host("momentum_contrastive", choice, queue_length=length)
    before = ids(IMAGES[::-1] + 3, TEXTS + 20)
    first = inputs(before, target=earlier)
    variables = objective.init(jax.random.key(0), first)
    queue = {n: np.array(x) for n, x in variables["queue"]["queue"].items()}
    _, state = objective.apply(variables, first, mutable=["queue"])
    call = inputs(ids(), target=now, share=share)
    (loss, metrics), _ = objective.apply(
        {**variables, **state}, call, mutable=["queue"]
    )
    same = np.zeros((B, B + length), bool)
    same[:, :B] = SAME
    same[:, B : 2 * B] = IMAGES[:, None] == (IMAGES[::-1] + 3)[None]
    assert same[:, B:].any()

    expected = 0.0
    for asks, answers in (("image", "text"), ("text", "image")):
        keys = np.concatenate([now[answers], earlier[answers], queue[answers][B:]])
        logits = np.asarray(call.features[asks]["embedding"] @ keys.T / 0.07)
        opinion = np.exp(np.asarray(now[asks] @ keys.T / 0.07, np.float64))
        allowed = np.ones_like(same) if choice == "multi_positive" else ~same
        opinion = opinion * allowed / (opinion * allowed).sum(1, keepdims=True)
        scores = np.exp(np.float64(logits)) * allowed
        scores = np.log(scores / scores.sum(1, keepdims=True), where=allowed,
                        out=np.zeros_like(scores))  # fmt: skip
        soft = -(opinion * scores).sum(1).mean()
        hard = slow_softmax(np.float64(logits), same, choice)
        expected += (share * soft + (1 - share) * hard) / 2
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["duplicates"], 4 / 6)


def test_ids_wrap_around_in_the_queue_with_their_keys():
    objective = host("momentum_contrastive", "mask")
    variables = objective.init(jax.random.key(0), inputs(ids()))
    queue = variables["queue"]["queue"]
    for name in ("image_id", "text_id"):
        assert queue[name].dtype == jnp.int32
        np.testing.assert_array_equal(queue[name], -1)
    for _ in range(2):  # places 0 to 5, then 6, 7 and 0 to 3
        _, state = objective.apply(variables, inputs(ids()), mutable=["queue"])
        variables = {**variables, **state}
    rows = [2, 3, 4, 5, 4, 5, 0, 1]
    queue = variables["queue"]["queue"]
    np.testing.assert_array_equal(queue["image_id"], IMAGES[rows])
    np.testing.assert_array_equal(queue["text_id"], TEXTS[rows])
    np.testing.assert_array_equal(queue["text"], embeddings(1)["text"][jnp.array(rows)])


def test_without_the_option_the_queue_has_no_ids_and_no_view_is_read():
    objective = host("momentum_contrastive")
    queue = objective.init(jax.random.key(0), inputs({}))["queue"]["queue"]
    assert set(queue) == {"image", "text", "pointer"}
    for name in HOSTS:
        plain, metrics = loss_of(name, "ignore", inputs({}))
        given_ids, _ = loss_of(name, "ignore", inputs(ids()))
        assert plain == given_ids
        assert "duplicates" not in metrics


@pytest.mark.parametrize("name", HOSTS)
def test_without_duplicates_all_choices_agree(name):
    results = [loss_of(name, choice, inputs(distinct())) for choice in ALL]
    for loss, metrics in results[1:]:
        np.testing.assert_allclose(loss, results[0][0], rtol=1e-6)
        assert metrics.pop("duplicates") == 0
        assert metrics == results[0][1]


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("choice", TREATMENTS)
def test_gradients_are_finite_if_all_pairs_are_duplicates(name, choice):
    one = ids(np.zeros(B, np.int32), np.zeros(B, np.int32))
    objective = host(name, choice)
    variables = objective.init(jax.random.key(0), inputs(one))
    # A second step, so that all of the queue is the same, too.
    for _ in range(2):
        _, state = objective.apply(variables, inputs(one), mutable=["queue"])
        variables = {**variables, **state}
    rest = {k: v for k, v in variables.items() if k != "params"}

    def loss(params, online):
        call = inputs(one, online)
        (value, _), _ = objective.apply(
            {"params": params, **rest}, call, mutable=["queue"]
        )
        return value

    grad = jax.value_and_grad(loss, argnums=(0, 1))
    value, grads = grad(variables["params"], embeddings(0))
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves((value, grads)))
    if choice == "mask" and name != "sigmoid":
        np.testing.assert_allclose(value, 0, atol=1e-6)  # there is nothing to tell


@pytest.mark.parametrize("formula", [softmax_contrastive, sigmoid_contrastive])
def test_masked_pairs_get_no_gradient(formula):
    grad = jax.grad(lambda x: formula(mask_logits(x, SAME)))(some_logits())
    assert np.all(grad[SAME] == 0) and np.all(grad[~SAME] != 0)


def test_the_least_loss_of_identical_pairs_is_their_uniform_share():
    everyone = jnp.ones((B, B), bool)
    best = softmax_contrastive(jnp.zeros((B, B)), everyone)
    np.testing.assert_allclose(best, np.log(B), rtol=1e-6)
    for seed in range(5):
        other = jax.random.normal(jax.random.key(seed), (B, B))
        assert softmax_contrastive(other, everyone) > best
    grad = jax.grad(softmax_contrastive)(jnp.zeros((B, B)), everyone)
    np.testing.assert_allclose(grad, 0, atol=1e-7)


def test_identical_captions_cost_the_entropy_of_their_groups_and_no_more():
    """A model that is sure of the groups has reached the least loss there is."""
    groups = np.array([0, 0, 0, 1, 1, 2], np.int32)
    view = ids(np.arange(B, dtype=np.int32), groups)
    same = find_duplicates(view)
    logits = jnp.where(groups[:, None] == groups, 50.0, 0.0)
    loss = softmax_contrastive(*apply_choice("multi_positive", logits, same))
    sizes = np.array([3, 3, 3, 2, 2, 1])
    np.testing.assert_allclose(loss, np.log(sizes).mean(), rtol=1e-5)
    masked = softmax_contrastive(*apply_choice("mask", logits, same))
    np.testing.assert_allclose(masked, 0, atol=1e-6)
    sigmoid = sigmoid_contrastive(
        *apply_choice("multi_positive", 2 * logits - 50, same)
    )
    np.testing.assert_allclose(sigmoid, 0, atol=1e-6)


def test_a_caption_under_every_second_image_costs_nothing_where_it_is_masked():
    """The medical case: "no finding" is no negative of "no finding"."""
    texts = np.array([0, 1, 0, 3, 0, 5], np.int32)
    view = ids(np.arange(B, dtype=np.int32), texts)
    seen = jnp.eye(B, E)[texts]  # as good as a model can be
    call = inputs(view, {"image": seen, "text": seen})
    losses = {choice: loss_of("contrastive", choice, call) for choice in ALL}
    np.testing.assert_allclose(losses["ignore"][0], np.log(3) / 2, atol=1e-4)
    np.testing.assert_allclose(losses["mask"][0], 0, atol=1e-4)
    np.testing.assert_allclose(losses["multi_positive"][0], np.log(3) / 2, atol=1e-4)
    accuracies = {c: m["image_to_text_accuracy"] for c, (_, m) in losses.items()}
    assert accuracies["mask"] == accuracies["multi_positive"] == 1
    assert accuracies["ignore"] < 1
    assert losses["mask"][1]["duplicates"] == 0.5


def test_masked_duplicates_never_raise_the_loss():
    """Of the same logits; a masked duplicate is one negative less."""
    for name in HOSTS:
        plain, _ = loss_of(name, "ignore", inputs({}, share=0.0))
        for view in (ids(), ids(texts=np.zeros(B, np.int32))):
            masked, _ = loss_of(name, "mask", inputs(view, share=0.0))
            assert masked < plain


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("choice", TREATMENTS)
def test_eight_devices_equal_one(name, choice):
    rng, rows = np.random.default_rng(0), 16
    view = ids(*rng.integers(0, 9, (2, rows)).astype(np.int32))
    arrays = jax.device_get((view, embeddings(0, rows), embeddings(1, rows)))
    objective = host(name, choice, **({"queue_length": 24} if name in QUEUED else {}))
    variables = jax.device_get(objective.init(jax.random.key(0), inputs(*arrays)))
    for key in ("image_id", "text_id") if name in QUEUED else ():
        variables["queue"]["queue"][key] = rng.integers(-1, 30, 24).astype(np.int32)

    @jax.jit
    def step(variables, arrays):
        return objective.apply(variables, inputs(*arrays), mutable=["queue"])

    results = []
    for count in (1, 8):
        mesh = sharding.make_mesh(-1, 1, jax.devices()[:count])
        with jax.set_mesh(mesh):
            placed = jax.device_put(variables, sharding.replicated(mesh))
            results.append(jax.device_get(step(placed, sharding.put(arrays, mesh))))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), *results)
    assert 0 < results[0][0][1]["duplicates"] < 1


@pytest.mark.parametrize("name", HOSTS)
def test_there_is_no_additional_float_array_of_all_pairs(name):
    rows = 256
    options = {"queue_length": rows} if name in QUEUED else {}
    call = inputs(distinct(rows), embeddings(0, rows), embeddings(1, rows))

    def memory(choice):
        objective = host(name, choice, **options)

        def loss(variables, features, view):
            asked = call._replace(features=features, view=view)
            return objective.apply(variables, asked, mutable=["queue"])[0]

        variables = jax.eval_shape(lambda: objective.init(jax.random.key(0), call))
        step = jax.jit(jax.value_and_grad(loss, argnums=1, has_aux=True))
        compiled = step.lower(variables, call.features, call.view).compile()
        analysis = compiled.memory_analysis()
        assert analysis
        return analysis.temp_size_in_bytes

    pairs = rows * (rows + options.get("queue_length", 0))
    plain = memory("ignore")
    for choice in TREATMENTS:
        assert memory(choice) - plain < 3 * pairs  # bytes: bools, of four no float


class Plain:
    """Towers whose features stand in the view."""

    def encode(self, view, train=False):
        return {m: {"embedding": view[m]} for m in ("image", "text")}

    def embed(self, features):
        return features


def test_each_symmetric_view_uses_its_own_ids():
    texts = np.zeros(B, np.int32)
    batch = {
        "view1": {**embeddings(0), **distinct()},
        "view2": {**embeddings(1), **ids(np.arange(B, dtype=np.int32), texts)},
    }
    objectives = {"contrastive": Contrastive(duplicates="mask")}
    learner = Learner(Plain(), objectives, symmetric=True)
    hyper = {"objectives": {"contrastive": {"weight": 1.0}}}
    none = {"view1": {}, "view2": {}}
    (loss, metrics), _ = learner.init_with_output(jax.random.key(0), batch, none, hyper)
    assert metrics["contrastive/duplicates"] == 0.5
    first, _ = loss_of("contrastive", "ignore", inputs({}, embeddings(0)))
    np.testing.assert_allclose(loss, first / 2, rtol=1e-6)
