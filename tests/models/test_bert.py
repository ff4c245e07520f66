"""The BERT towers: masks, shared parameters, options that change no number."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.models.attention.plain import attend
from clipin_jax.models.bert import Bert
from clipin_jax.models.mixture_bert import MixtureBert
from clipin_jax.models.split_bert import SplitBert
from tests.parity.compare import assert_tree_close, stacked

SLOW = pytest.mark.slow
SIZES = dict(width=16, num_heads=2, context_length=8, vocab_size=30, mlp_ratio=2)
TOWERS = {
    "bert": Bert(depth=1, **SIZES),
    "split": SplitBert(depth=1, fusion_depth=1, token_types=2, **SIZES),
    "mixture": MixtureBert(depth=1, **SIZES),
}


def texts() -> jax.Array:
    """One row of full length, one padded."""
    ids = jax.random.randint(jax.random.key(0), (2, 8), 4, 28)
    return ids.at[:, 0].set(2).at[1, 5:].set(0)


def image_tokens(dtype=jnp.float32) -> jax.Array:
    return jax.random.normal(jax.random.key(1), (2, 5, 12), dtype)


def everything(tower, text, image, train=False):
    """The output of every method that a tower has."""
    out = tower(text, train)
    tokens, outputs = out["tokens"], [out["tokens"]]
    if hasattr(tower, "fuse"):
        outputs.append(tower.fuse(text, tokens, image, train))
    if hasattr(tower, "predict_masked"):
        outputs.append(tower.predict_masked(text, image, train))
    if hasattr(tower, "decode"):
        outputs.append(tower.decode(text, tokens, image, train))
    return outputs


def init(tower, image=None):
    image = image_tokens() if image is None else image
    function = functools.partial(tower.init, method=everything)
    return jax.jit(function)(jax.random.key(2), texts(), image)


def apply(tower, variables, text, image=None, train=False, **more):
    image = image_tokens() if image is None else image
    function = functools.partial(tower.apply, method=everything, train=train)
    return jax.jit(function)(variables, text, image, **more)


@pytest.mark.parametrize("name", TOWERS)
def test_no_position_attends_to_padding(name):
    tower = TOWERS[name]
    variables = init(tower)
    text = texts()[1:]
    padded = apply(tower, variables, text, image_tokens()[1:])
    cut = apply(tower, variables, text[:, :5], image_tokens()[1:])
    for long, short in zip(padded, cut, strict=True):
        np.testing.assert_allclose(long[:, :5], short, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", TOWERS)
def test_a_text_of_padding_alone_is_finite_and_so_is_its_gradient(name):
    tower = TOWERS[name]
    variables = init(tower)

    def loss(variables):
        text = jnp.zeros((2, 8), jnp.int32)
        outputs = tower.apply(variables, text, image_tokens(), method=everything)
        return sum(jnp.sum(jnp.sin(x)) for x in outputs)

    value, grads = jax.jit(jax.value_and_grad(loss))(variables)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_the_decoder_does_not_attend_to_later_positions():
    tower = TOWERS["mixture"]
    variables = init(tower)
    text = texts()
    other = text.at[:, 4:].set(9)
    one, two = (apply(tower, variables, x)[2] for x in (text, other))
    np.testing.assert_allclose(one[:, :4], two[:, :4], rtol=1e-5, atol=1e-5)
    assert not np.allclose(one[:, 4:], two[:, 4:], atol=1e-3)


def test_a_mixture_replaces_the_first_id_by_its_role():
    """Whatever stands there; and negative marks count from the vocabulary's end."""
    tower = TOWERS["mixture"]
    variables = init(tower)
    text = texts()
    other = text.at[:, 0].set(7)
    _, *outputs = apply(tower, variables, text)
    _, *again = apply(tower.copy(encode_id=29, decode_id=28), variables, other)
    for one, two in zip(outputs, again, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_mixture_shares_all_but_self_attention():
    layer = init(TOWERS["mixture"])["params"]["layers"]["blocks_0"]
    assert set(layer) == {
        "self_attention", "decoder_attention", "cross_attention", "mlp_in", "mlp_out",
        "ln",
    }  # fmt: skip
    text_alone = TOWERS["mixture"].init(jax.random.key(0), texts())["params"]
    assert set(text_alone["layers"]["blocks_0"]) == {
        "self_attention", "mlp_in", "mlp_out", "ln",
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["bert", *(pytest.param(n, marks=SLOW) for n in ("split", "mixture"))]
)
def test_scan_and_remat_do_not_change_outputs(name):
    with jax.enable_x64(True):
        double = dict(dtype=jnp.float64, param_dtype=jnp.float64)
        depths = dict(depth=2, fusion_depth=2) if name == "split" else dict(depth=2)
        tower = TOWERS[name].copy(**depths, **double)
        image = image_tokens(jnp.float64)
        params = init(tower, image)["params"]

        def loss(params, **choice):
            variables, changed = {"params": params}, tower.copy(**choice)
            outputs = changed.apply(variables, texts(), image, method=everything)
            return sum(jnp.sum(jnp.sin(x)) for x in outputs)

        def gradient(params, **choice):
            return jax.jit(jax.grad(functools.partial(loss, **choice)))(params)

        expected = gradient(params)
        scanned = gradient(stacked(params), scan_layers=True, remat="full")
        assert_tree_close(scanned, stacked(expected), 1e-10, zero=key_bias)


def key_bias(path):
    return ... if path.endswith("key/bias") else None


@pytest.mark.parametrize("scan_layers, remat", [(False, "none"), (True, "full")])
def test_scanned_layers_start_with_different_parameters(scan_layers, remat):
    options = dict(scan_layers=scan_layers, remat=remat, dropout=0.1)
    tower = TOWERS["mixture"].copy(depth=2, **options)
    layers = init(tower)["params"]["layers"]
    kernels = (
        layers["blocks"]["decoder_attention"]["query"]["kernel"]
        if scan_layers
        else [
            layers[f"blocks_{i}"]["decoder_attention"]["query"]["kernel"]
            for i in (0, 1)
        ]
    )
    assert not np.array_equal(kernels[0], kernels[1])


@pytest.mark.parametrize(
    "scan_layers, remat",
    [(False, "none"), pytest.param(True, "full", marks=SLOW)],
)
def test_dropout_is_active_only_in_training(scan_layers, remat):
    tower = TOWERS["split"].copy(scan_layers=scan_layers, remat=remat, dropout=0.1)
    variables = init(tower)
    rngs = [{"dropout": jax.random.key(i)} for i in (0, 0, 1)]
    once, again, other = (
        apply(tower, variables, texts(), train=True, rngs=r)[-1] for r in rngs
    )
    np.testing.assert_array_equal(once, again)
    assert not np.allclose(once, other)
    still = apply(tower, variables, texts())[-1]
    none = apply(tower.copy(dropout=0.0), variables, texts(), train=True)[-1]
    np.testing.assert_allclose(still, none, rtol=1e-5, atol=1e-5)


def test_attention_weights_are_dropped_too():
    """With its inputs and outputs kept, only the weights are left to be dropped."""
    q, k, v = jax.random.normal(jax.random.key(0), (3, 2, 7, 4, 8))
    kept = attend(q, k, v, drop=lambda weights: weights)
    np.testing.assert_allclose(kept, attend(q, k, v), rtol=1e-5, atol=1e-6)
    halved = attend(q, k, v, drop=lambda weights: weights / 2)
    np.testing.assert_allclose(halved, kept / 2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_masked_attention_is_the_same_in_both_precisions(causal):
    q, k, v = jax.random.normal(jax.random.key(0), (3, 2, 7, 4, 8))
    mask = jnp.arange(7) < jnp.array([7, 3])[:, None, None, None]
    with jax.enable_x64(True):
        double = [jnp.asarray(np.asarray(x), jnp.float64) for x in (q, k, v)]
        expected = attend(*double, causal=causal, mask=mask)
    got = attend(q, k, v, causal=causal, mask=mask)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    other = v.at[1, 3:].set(99.0)
    np.testing.assert_array_equal(got, attend(q, k, other, causal=causal, mask=mask))


def test_initialisation_is_berts():
    tower = SplitBert(width=128, num_heads=2, depth=1, fusion_depth=1, vocab_size=200)
    params = init(tower)["params"]
    flat = jax.tree_util.tree_leaves_with_path(params)
    for path, value in flat:
        leaf = path[-1].key
        if leaf in ("kernel", "embedding"):
            assert abs(np.std(value) / 0.02 - 1) < 0.05, path
        else:
            assert np.all(value == (leaf == "scale")), path


def test_half_precision_keeps_float32_parameters():
    tower = TOWERS["split"].copy(dtype=jnp.bfloat16)
    variables = init(tower)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(variables))
    half, full = (apply(t, variables, texts())[-1] for t in (tower, TOWERS["split"]))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), full, atol=0.1)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(context_length=7), "texts of 8 tokens do not fit"),
        (dict(num_heads=3), "num_heads = 3 does not divide"),
        (dict(activation="gelo"), "model.text.activation is 'gelo'"),
    ],
)
def test_wrong_options(changes, message):
    with pytest.raises(ClipinError, match=message):
        TOWERS["bert"].copy(**changes).init(jax.random.key(0), texts())


def test_the_mean_leaves_padding_out():
    tower = Bert(depth=1, pool="mean", **SIZES)
    text = texts()
    out, _ = tower.init_with_output(jax.random.key(2), text)
    means = [out["tokens"][0].mean(axis=0), out["tokens"][1, :5].mean(axis=0)]
    np.testing.assert_allclose(out["pooled"], np.stack(means), atol=1e-6)
    with pytest.raises(ClipinError, match="pool"):
        Bert(depth=1, pool="cls", **SIZES).init(jax.random.key(2), text)
