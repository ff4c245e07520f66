"""Hard negatives without duplicates; wrong options and data of all objectives."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.objectives import OBJECTIVES, matching
from clipin_jax.objectives.matching import Matching, draw_hard_negatives
from tests.objectives.test_duplicates import HOSTS, SAME, B, embeddings, ids, inputs
from tests.support.objective_inputs import objective_inputs


class Fusing:
    """A text tower whose fused text is the pair that it saw."""

    name = "text"

    def fuse(self, text, text_tokens, image_tokens, train):
        return jnp.concatenate([text_tokens, image_tokens], axis=-1)


def matching_inputs(view):
    e = embeddings(0)
    features = {m: {"embedding": e[m], "tokens": e[m][:, None]} for m in e}
    view = {"text": jnp.ones((B, 4), jnp.int32), **view}
    hyper = {"weight": 1.0, "temperature": 0.07}
    towers = SimpleNamespace(text=Fusing())
    return objective_inputs(features, towers=towers, view=view, hyper=hyper)


@pytest.mark.parametrize("floor", [0.0, 1e-4])
def test_a_duplicate_is_never_drawn_as_a_negative(floor):
    similarity = 20.0 * SAME  # it would be drawn nearly always
    keys = jax.random.split(jax.random.key(0), 200)

    def draw(duplicates):
        return jax.vmap(
            lambda key: draw_hard_negatives(
                key, similarity, floor=floor, duplicates=duplicates
            )
        )(keys)

    rows = np.arange(B)
    assert np.any(SAME[rows, draw(None)])
    assert not np.any(SAME[rows, draw(SAME)])
    assert not np.any(draw(SAME) == rows)
    np.testing.assert_array_equal(draw(np.zeros_like(SAME)), draw(None))


def matching_loss(variables, call, wrong):
    """A loop over pairs of text and image; `wrong` holds those of no match."""
    text, image = (call.features[m]["tokens"][:, 0] for m in ("text", "image"))
    head = variables["params"]["head"]
    losses = []
    for label, pairs in ((1, [(i, i) for i in range(B)]), (0, wrong)):
        for t, i in pairs:
            logits = jnp.concatenate([text[t], image[i]]) @ head["kernel"]
            losses.append(-jax.nn.log_softmax(logits + head["bias"])[label])
    return np.mean(losses)


def test_matching_leaves_out_rows_without_a_negative(monkeypatch):
    """All of the first group is the same."""
    drawn, draw = [], matching.draw_hard_negatives
    monkeypatch.setattr(
        matching,
        "draw_hard_negatives",
        lambda *args, **kw: drawn.append(draw(*args, **kw)) or drawn[-1],
    )
    view = ids(np.arange(B, dtype=np.int32), np.array([1, 1, 1, 2, 3, 4], np.int32))
    objective, call = Matching(group=3, duplicates="mask"), matching_inputs(view)
    rngs = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    (loss, metrics), variables = objective.init_with_output(rngs, call)
    images, texts = (np.ravel(places + 3 * np.arange(2)[:, None]) for places in drawn)
    wrong = [(row, images[row]) for row in (3, 4, 5)]
    wrong += [(texts[row], row) for row in (3, 4, 5)]
    expected = matching_loss(variables, call, wrong)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert metrics["duplicates"] == 0.5


def test_without_negatives_matching_learns_from_positive_pairs_only():
    one = ids(np.zeros(B, np.int32), np.zeros(B, np.int32))
    objective, call = Matching(duplicates="mask"), matching_inputs(one)
    rngs = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    variables = objective.init(rngs, call)
    (loss, _), grads = jax.value_and_grad(
        lambda variables: objective.apply(variables, call, rngs=rngs), has_aux=True
    )(variables)
    expected = matching_loss(variables, call, [])
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(grads))


def test_matching_refuses_multi_positive():
    objective = Matching(duplicates="multi_positive", name="matching")
    with pytest.raises(
        ClipinError, match="known: ignore, mask\\n|known: ignore, mask$"
    ):
        objective.init(jax.random.key(0), matching_inputs(ids()))


@pytest.mark.parametrize("name", [*HOSTS, "matching"])
def test_options_that_need_ids_refuse_data_without_ids(name):
    objective = OBJECTIVES[name](duplicates="mask", name=name)
    call = matching_inputs({}) if name == "matching" else inputs({})
    message = f"objectives.{name}.duplicates = 'mask' .* image_id and text_id"
    with pytest.raises(ClipinError, match=message):
        jax.eval_shape(lambda: objective.init(jax.random.key(0), call))
    half = call._replace(view={**call.view, "image_id": jnp.zeros(B, jnp.int32)})
    with pytest.raises(ClipinError, match="does not give text_id: "):
        jax.eval_shape(lambda: objective.init(jax.random.key(0), half))


@pytest.mark.parametrize("name", [*HOSTS, "matching"])
def test_an_unknown_choice_is_refused_with_the_nearest_one(name):
    objective = OBJECTIVES[name](duplicates="masked", name=name)
    call = matching_inputs(ids()) if name == "matching" else inputs(ids())
    message = f"objectives.{name}.duplicates is 'masked': did you mean 'mask'. known: "
    with pytest.raises(ClipinError, match=message):
        objective.init(jax.random.key(0), call)
