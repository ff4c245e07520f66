import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.models.split_decoder import SplitDecoder

SIZES = dict(
    width=16, depth=1, num_heads=2, decoder_depth=2, context_length=8, vocab_size=20
)
TEXT = jnp.array([[18, 4, 7, 3, 19, 0, 0, 0], [18, 5, 6, 19, 0, 0, 0, 0]])
IMAGE = jax.random.normal(jax.random.key(0), (2, 3, 24))  # of another width


def everything(tower, text, image):
    encoded = tower(text)
    return encoded, tower.decode(text, encoded["tokens"], image)


def built(**changes):
    tower = SplitDecoder(**SIZES | changes)
    init = jax.jit(lambda key: tower.init(key, TEXT, IMAGE, method=everything))
    variables = init(jax.random.key(1))
    run = jax.jit(lambda *x: tower.apply(variables, *x, method=everything))
    return run, variables["params"]


@pytest.fixture(scope="module")
def tower():
    return built()


def test_a_position_does_not_attend_to_later_ones(tower):
    run, _ = tower
    encoded, logits = run(TEXT, IMAGE)
    changed, changed_logits = run(TEXT.at[:, 3].set(9), IMAGE)
    before, after = np.s_[:, :3], np.s_[:, 3:]
    np.testing.assert_array_equal(encoded["tokens"][before], changed["tokens"][before])
    np.testing.assert_array_equal(logits[before], changed_logits[before])
    assert not np.allclose(logits[after], changed_logits[after])
    assert not np.allclose(encoded["pooled"], changed["pooled"])


def test_the_image_moves_every_prediction_and_no_encoding(tower):
    run, _ = tower
    encoded, logits = run(TEXT, IMAGE)
    again, swapped = run(TEXT, IMAGE[::-1])
    np.testing.assert_array_equal(encoded["pooled"], again["pooled"])
    assert (np.abs(logits - swapped).max(axis=-1) > 1e-4).all()
    assert logits.shape == (2, 8, 20)


def test_a_row_may_be_shorter(tower):
    run, _ = tower
    short = run(TEXT[:, :5], IMAGE)[1]
    np.testing.assert_allclose(run(TEXT, IMAGE)[1][:, :5], short, atol=1e-6)


def test_masks_differ_in_the_class_token_of_padded_texts_only():
    aligned, shifted = built()[0], built(padding_mask="shifted")[0]
    full = TEXT.at[1].set(jnp.array([18, 5, 6, 2, 3, 4, 7, 19]))
    (a, a_logits), (s, s_logits) = aligned(full, IMAGE), shifted(full, IMAGE)
    np.testing.assert_allclose(a["pooled"][1], s["pooled"][1], atol=1e-6)
    assert not np.allclose(a["pooled"][0], s["pooled"][0], atol=1e-4)
    np.testing.assert_allclose(a_logits[0, :5], s_logits[0, :5], atol=1e-6)


def test_every_parameter_has_an_initialiser(tower):
    for path, leaf in jax.tree_util.tree_leaves_with_path(tower[1]):
        name = jax.tree_util.keystr(path)
        assert np.isfinite(leaf).all(), name
        if "bias" not in name and "scale" not in name:
            assert 1e-3 < np.std(leaf) < 1, name


def test_wrong_input():
    with pytest.raises(ClipinError, match="model.text.padding_mask is 'alined'"):
        built(padding_mask="alined")
    with pytest.raises(ClipinError, match="8 tokens do not fit"):
        built(context_length=7)
