"""Objectives of momentum hosts without their towers: queue, negatives, masked ids."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from clipin_jax.core.learner import build
from clipin_jax.core.optimizer_chain import make_optimizer
from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import unit
from clipin_jax.objectives import matching
from clipin_jax.objectives.losses import softmax_contrastive
from clipin_jax.objectives.masked_lm import MaskedLM
from clipin_jax.objectives.matching import Matching, draw_hard_negatives
from clipin_jax.objectives.momentum_contrastive import MomentumContrastive
from tests.support.objective_inputs import objective_inputs
from tests.support.tiny import tiny_batch, tiny_config

B, E = 3, 8


def embeddings(seed: int, rows: int = B) -> dict:
    keys = jax.random.split(jax.random.key(seed))
    return {
        m: unit(jax.random.normal(k, (rows, E)))
        for m, k in zip(("image", "text"), keys, strict=True)
    }


def inputs(online: dict, target: dict, share: float = 0.4, train: bool = True):
    features = {m: {"embedding": x} for m, x in online.items()}
    hyper = {"weight": 1.0, "distillation": share}
    return objective_inputs(features, targets=target, hyper=hyper, train=train)


def contrastive(length: int, *call, variables=None, **options):
    objective = MomentumContrastive(queue_length=length, **options, name="host")
    call = inputs(*(call or (embeddings(0), embeddings(1))))
    if variables is None:
        variables = objective.init(jax.random.key(0), call)
    (loss, metrics), state = objective.apply(variables, call, mutable=["queue"])
    return loss, metrics, variables, state


def test_the_queue_wraps_around_at_any_length():
    length = 5  # which no batch of three divides
    _, _, variables, _ = contrastive(length)
    expected = {m: np.array(variables["queue"]["queue"][m]) for m in ("image", "text")}
    place = 0
    for step in range(4):
        target = embeddings(10 + step)
        _, _, _, state = contrastive(length, embeddings(0), target, variables=variables)
        variables = {**variables, **state}
        for row in range(B):
            for m, rows in expected.items():
                rows[place] = target[m][row]
            place = (place + 1) % length
        queue = state["queue"]["queue"]
        assert queue["pointer"] == place
        for m, rows in expected.items():
            np.testing.assert_array_equal(queue[m], rows)


def test_the_queue_starts_random_and_changes_only_in_training():
    _, _, variables, _ = contrastive(16)
    queue = variables["queue"]["queue"]
    assert queue["pointer"] == 0
    assert not np.array_equal(queue["image"], queue["text"])
    np.testing.assert_allclose(jnp.linalg.norm(queue["text"], axis=-1), 1, rtol=1e-6)
    _, _, _, state = contrastive(
        16, embeddings(0), embeddings(1), 0.4, False, variables=variables
    )
    np.testing.assert_array_equal(state["queue"]["queue"]["image"], queue["image"])


def test_a_queue_shorter_than_the_batch_is_refused():
    contrastive(B)
    with pytest.raises(ClipinError, match=r"host.queue_length = 2 .* batch of 3"):
        contrastive(B - 1)


def test_without_queue_and_soft_labels_the_loss_is_infonce():
    online, target = embeddings(0), embeddings(1)
    loss, metrics, variables, _ = contrastive(0, online, target, 0.0)
    assert "queue" not in variables
    image_to_text = online["image"] @ target["text"].T / 0.07
    text_to_image = online["text"] @ target["image"].T / 0.07
    by_rows = [
        -jnp.mean(jnp.diag(jax.nn.log_softmax(x)))
        for x in (image_to_text, text_to_image)
    ]
    np.testing.assert_allclose(loss, np.mean(by_rows), rtol=1e-5)
    same, _, _, _ = contrastive(0, online, online, 0.0)
    logits = online["image"] @ online["text"].T / 0.07
    np.testing.assert_allclose(same, softmax_contrastive(logits), rtol=1e-5)
    assert metrics["temperature"] == pytest.approx(0.07)


def test_neither_the_order_of_the_batch_nor_that_of_the_queue_matters():
    online, target = embeddings(0), embeddings(1)
    loss, _, variables, _ = contrastive(7, online, target)
    order = np.array([2, 0, 1])
    shuffled = [{m: x[order] for m, x in e.items()} for e in (online, target)]
    turned = jax.tree.map(lambda x: x[::-1] if x.ndim else x, variables["queue"])
    variables = {**variables, "queue": turned}
    again, _, _, _ = contrastive(7, *shuffled, variables=variables)
    np.testing.assert_allclose(loss, again, rtol=1e-5)


def test_no_gradient_reaches_the_target_nor_the_temperature_of_the_labels():
    online, target = embeddings(0), embeddings(1)
    _, _, variables, _ = contrastive(5)

    def loss(online, target, variables):
        return contrastive(5, online, target, 1.0, variables=variables)[0]

    grads = jax.grad(loss, argnums=(0, 1, 2), allow_int=True)(online, target, variables)
    assert all(np.any(x != 0) for x in grads[0].values())
    assert all(np.all(x == 0) for x in grads[1].values())
    queue = grads[2]["queue"]["queue"]
    assert np.any(queue["image"] != 0)  # keys are data: this gradient is not used

    # Where online equals target the soft labels are met: the loss is at its least in
    # the temperature, but only if the labels do not move with it.
    equal = jax.grad(loss, argnums=2, allow_int=True)(online, online, variables)
    assert abs(equal["params"]["temperature"]["value"]) < 1e-4


def test_temperature_stays_within_its_bounds():
    config = tiny_config(clipin=False).optim
    with config.unlocked():
        config.update(clip_norm=0.0, bounds=((r"temperature/", 0.001, 0.5),))
    value = {"objectives_host": {"temperature": {"value": jnp.array(0.4)}}}
    for sign, end in ((-1.0, 0.5), (1.0, 0.001)):
        numbers = {"learning_rate": 10.0, "weight_decay": 0.0}
        chain = make_optimizer(config)({"optim": numbers})
        grads = jax.tree.map(lambda x, s=sign: s * jnp.ones_like(x), value)
        updates, _ = chain.update(grads, chain.init(value), value)
        moved = jax.tree.map(jnp.add, value, updates)
        value_after = moved["objectives_host"]["temperature"]["value"]
        assert value_after == pytest.approx(end, rel=1e-4)


def test_negatives_are_drawn_as_often_as_they_are_similar():
    similarity = jnp.array([[9.0, 0.0, 1.0, 2.0]] * 4)
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = jax.vmap(lambda key: draw_hard_negatives(key, similarity))(keys)
    shares = np.bincount(drawn[:, 0], minlength=4) / 4000
    expected = np.exp([-np.inf, 0, 1, 2]) / np.exp([0, 1, 2]).sum()
    np.testing.assert_allclose(shares, expected, atol=0.03)
    assert not np.any(drawn == jnp.arange(4))


def test_every_group_has_the_distribution_of_its_rows():
    similarity = 2 * jax.random.normal(jax.random.key(0), (2, 4, 4))
    keys = jax.random.split(jax.random.key(1), 6000)
    drawn = jax.vmap(lambda key: draw_hard_negatives(key, similarity, floor=0.05))(keys)
    for group, row in np.ndindex(2, 4):
        weights = np.exp(similarity[group, row])
        expected = weights / weights.sum() + 0.05
        expected[row] = 0
        shares = np.bincount(drawn[:, group, row], minlength=4) / 6000
        np.testing.assert_allclose(shares, expected / expected.sum(), atol=0.03)


@pytest.mark.parametrize("floor", [0.0, 1e-4])
def test_a_row_with_a_confident_pair_still_has_negatives(floor):
    similarity = 1e4 * jnp.eye(6)
    keys = jax.random.split(jax.random.key(0), 50)
    drawn = jax.vmap(lambda k: draw_hard_negatives(k, similarity, floor=floor))(keys)
    assert not np.any(drawn == jnp.arange(6))
    assert len(np.unique(drawn[:, 0])) == 5


def test_negatives_are_drawn_within_their_group():
    tokens, seen = np.arange(12.0), []
    hyper = {"weight": 1.0, "temperature": 10.0}
    inputs, fuse = matching_inputs(12)._replace(hyper=hyper), Fusing.fuse

    class Tower(Fusing):
        def fuse(self, *arguments):
            seen.append(fuse(self, *arguments))
            return seen[-1]

    inputs.towers.text = Tower()
    head = {"params": {"head": {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}}}
    matching_loss = Matching(group=3)
    for number in range(30):
        matching_loss.apply(head, inputs, rngs={"sample": jax.random.key(number)})
    pairs = np.array([rows[:, 0] for rows in seen]).reshape(30, 12, 3, 3)
    texts, _, images = np.moveaxis(pairs, -1, 0)
    np.testing.assert_array_equal(
        texts[:, :, :2], np.broadcast_to(tokens[:, None], (30, 12, 2))
    )
    for wrong in (images[:, :, 1], texts[:, :, 2]):
        assert np.all(wrong // 3 == tokens // 3) and np.all(wrong != tokens)
        assert all(len(set(column)) == 2 for column in wrong.T)


class Fusing:
    """A text tower whose fused text holds the ids of its text and its image."""

    name = "text"

    def fuse(self, text, text_tokens, image_tokens, train):
        ids = jnp.broadcast_to(text[:, :1, None], text_tokens[..., :1].shape)
        image = jnp.broadcast_to(image_tokens[:, :1, :1], ids.shape)
        return jnp.concatenate([ids, text_tokens[..., :1], image], axis=-1)


def matching_inputs(count: int, tower=None):
    numbers = jnp.arange(float(count))
    tokens = jnp.broadcast_to(numbers[:, None, None], (count, 4, 2))
    e = embeddings(0, count)
    features = {m: {"embedding": e[m], "tokens": tokens} for m in e}
    view = {"text": jnp.broadcast_to(jnp.arange(count)[:, None], (count, 4))}
    towers = SimpleNamespace(text=tower or Fusing())
    hyper = {"weight": 1.0, "temperature": 0.07}
    return objective_inputs(features, towers=towers, view=view, hyper=hyper)


def test_matching_compares_each_pair_then_a_wrong_image_then_a_wrong_text(monkeypatch):
    draws = iter([jnp.array([1, 2, 0]), jnp.array([2, 0, 1])])
    monkeypatch.setattr(matching, "draw_hard_negatives", lambda *_, **__: next(draws))
    seen = []
    tower = Fusing()
    fuse = tower.fuse
    monkeypatch.setattr(
        Fusing, "fuse", lambda self, *x: seen.append(fuse(*x)) or seen[-1]
    )
    head = {"params": {"head": {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}}}
    rngs = {"sample": jax.random.key(0)}
    loss, metrics = Matching().apply(head, matching_inputs(3, tower), rngs=rngs)
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    texts, states, images = seen[0][:, 0].T
    np.testing.assert_array_equal(texts, [0, 0, 2, 1, 1, 0, 2, 2, 1])
    np.testing.assert_array_equal(states, texts)
    np.testing.assert_array_equal(images, [0, 1, 0, 1, 2, 1, 2, 0, 2])


@pytest.mark.parametrize("count, group", [(1, 0), (3, 2), (4, 1)])
def test_matching_needs_a_negative(count, group):
    objective = Matching(group=group, name="matching")
    with pytest.raises(ClipinError, match="groups of at least 2 that divide"):
        objective.init(jax.random.key(0), matching_inputs(count))


@pytest.mark.parametrize(
    "name, options, method",
    [
        ("matching", dict(temperature=0.07), "fuse"),
        ("masked_lm", dict(distillation=0.0), "predict_masked"),
    ],
)
def test_text_towers_that_lack_a_method_are_refused(name, options, method):
    config = tiny_config(clipin=False)
    with config.unlocked():
        config.objectives[name] = ConfigDict(dict(weight=1.0, **options))
    learner, batch = build(config), tiny_batch(config)
    hyper = {"objectives": {n: {"weight": 1.0, **options} for n in learner.objectives}}
    with pytest.raises(ClipinError, match=f"tower that can {method}.*model.text.name"):
        jax.eval_shape(
            lambda: learner.init(jax.random.key(0), batch, hyper, method="initialize")
        )


class FixedLogits:
    """A text tower with fixed logits."""

    name = "text"

    def __init__(self, logits):
        self.logits = logits

    def predict_masked(self, text, image_tokens, train):
        return self.logits


def masked_inputs(labels, target=None, other=None, share=0.0):
    logits = jax.random.normal(jax.random.key(0), (2, 4, 6))
    view = {"masked_text": jnp.ones((2, 4), jnp.int32), "masked_labels": labels}
    features = {"image": {"tokens": jnp.zeros((2, 3, 4))}}
    hyper = {"weight": 1.0, "distillation": share}
    target = logits if target is None else target
    towers = SimpleNamespace(text=FixedLogits(logits))
    call = objective_inputs(
        features, towers=towers, view=view, other_view=other or view, targets=target,
        hyper=hyper,
    )  # fmt: skip
    return call, jax.nn.log_softmax(logits)


LABELS = jnp.array([[-100, 3, -100, 1], [-100, -100, 5, -100]])


def test_masked_positions_alone_count_in_part_distilled():
    target = jax.random.normal(jax.random.key(1), (2, 4, 6))
    call, scores = masked_inputs(LABELS, target, share=0.4)
    loss, _ = MaskedLM().apply({}, call)
    places = [(0, 1, 3), (0, 3, 1), (1, 2, 5)]
    soft = jax.nn.softmax(target)
    expected = [
        -0.6 * scores[b, i, word] - 0.4 * jnp.sum(soft[b, i] * scores[b, i])
        for b, i, word in places
    ]
    np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-5)


def test_labels_are_hard_where_the_target_has_another_text():
    target = jax.random.normal(jax.random.key(1), (2, 4, 6))
    other = {"masked_text": jnp.array([[1, 1, 1, 1], [1, 1, 4, 1]])}
    call, scores = masked_inputs(LABELS, target, other, share=1.0)
    loss, _ = MaskedLM(target_view="second").apply({}, call)
    soft = -jnp.sum(jax.nn.softmax(target) * scores, axis=-1)
    expected = (soft[0, 1] + soft[0, 3] - scores[1, 2, 5]) / 3
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_without_masked_tokens_the_loss_is_zero():
    call, _ = masked_inputs(jnp.full((2, 4), -100), share=0.4)
    loss, metrics = MaskedLM().apply({}, call)
    assert loss == 0 and metrics["accuracy"] == 0


def test_data_that_masks_nothing_is_refused():
    call, _ = masked_inputs(LABELS)
    call = call._replace(view={"text": LABELS})
    with pytest.raises(ClipinError, match="set data.mask_probability"):
        MaskedLM(name="masked_lm").apply({}, call)
