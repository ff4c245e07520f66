"""The bricks against plain numpy, and the choices that must not change numbers."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.models import layers
from clipin_jax.models.attention.plain import attend
from clipin_jax.models.remat import POLICIES
from clipin_jax.models.text_transformer import TextTransformer
from clipin_jax.models.vit import ViT, patchify
from tests.parity.compare import assert_tree_close, deviation, stacked
from tests.parity.golden_files import load

VIT = dict(patch_size=(8, 8), image_size=(32, 24), width=32, depth=2, num_heads=2)
TEXT = dict(width=32, depth=3, num_heads=2, context_length=10, vocab_size=50)


def images(height=32, width=24):
    return jax.random.normal(jax.random.key(0), (3, height, width, 3))


def texts(length=10):
    ids = jax.random.randint(jax.random.key(1), (3, length), 1, 49)
    return ids.at[:, length // 2].set(49)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_the_same_in_both_precisions(causal):
    q, k, v = jax.random.normal(jax.random.key(0), (3, 2, 7, 4, 8))
    with jax.enable_x64(True):
        double = [jnp.asarray(np.asarray(x), jnp.float64) for x in (q, k, v)]
        expected = attend(*double, causal=causal)
        assert expected.dtype == jnp.float64
    got = attend(q, k, v, causal=causal)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_batch_norm_against_numpy():
    x = np.asarray(jax.random.normal(jax.random.key(0), (6, 4))) * 3 + 2
    norm = layers.BatchNorm(affine=True)
    variables = norm.init(jax.random.key(1), x, train=True)
    y, updated = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    mean, var = x.mean(0), x.var(0)
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5), atol=1e-5)
    stats = updated["batch_stats"]
    np.testing.assert_allclose(stats["mean"], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * var * 6 / 5, rtol=1e-5)
    held = norm.apply({**variables, **updated}, x, train=False)
    expected = (x - 0.1 * mean) / np.sqrt(0.9 + 0.1 * var * 6 / 5 + 1e-5)
    np.testing.assert_allclose(held, expected, atol=1e-5)


def test_layer_norm_and_its_gradient_equal_flax():
    with jax.enable_x64(True):
        x, weights = jax.random.normal(jax.random.key(0), (2, 3, 5, 8), jnp.float64)
        x = 3 * x + 100  # where E[x^2] - E[x]^2 would have lost digits
        double = dict(dtype=jnp.float64, param_dtype=jnp.float64)
        ours = layers.LayerNorm(1e-5, **double)
        flax = nn.LayerNorm(1e-5, use_fast_variance=False, **double)
        params = {"scale": jnp.linspace(1, 2, 8), "bias": jnp.linspace(-1, 1, 8)}

        def loss(norm, params, x):
            return jnp.sum(weights * norm.apply({"params": params}, x))

        def both(norm):
            return jax.value_and_grad(loss, argnums=(1, 2))(norm, params, x)

        assert_tree_close(both(ours)[1], both(flax)[1], 1e-11)
        np.testing.assert_allclose(both(ours)[0], both(flax)[0], rtol=1e-12)


@pytest.mark.parametrize("mean", [0.0, 3.0, 30.0])
def test_normalising_half_precision_is_exact_to_its_own_rounding(mean):
    x = mean + jax.random.normal(jax.random.key(0), (4, 7, 96))
    x = x.astype(jnp.bfloat16)
    exact = np.asarray(x, np.float64)
    exact = exact - exact.mean(axis=-1, keepdims=True)
    exact /= np.sqrt(np.square(exact).mean(axis=-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(layers.normalise(x, 1e-6), exact, rtol=0, atol=2e-4)


def test_normalising_equal_values_in_half_precision_is_finite():
    x = jnp.full((2, 96), 3.0, jnp.bfloat16)
    np.testing.assert_allclose(layers.normalise(x, 1e-6), 0, atol=1e-6)


def test_patches_are_those_of_a_convolution():
    image = images()
    kernel = jax.random.normal(jax.random.key(2), (8, 8, 3, 5))
    expected = jax.lax.conv_general_dilated(
        image, kernel, (8, 8), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    got = patchify(image, (8, 8)) @ kernel.reshape(-1, 5)
    np.testing.assert_allclose(got.reshape(expected.shape), expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["image", "text"])
def test_scan_and_remat_do_not_change_outputs(kind):
    """In float64, where another order of sums shows below 1e-12."""
    with jax.enable_x64(True):
        double = dict(dtype=jnp.float64, param_dtype=jnp.float64)
        tower = (
            ViT(**VIT, **double)
            if kind == "image"
            else TextTransformer(**TEXT, **double)
        )
        inputs = images().astype(jnp.float64) if kind == "image" else texts()
        params = tower.init(jax.random.key(0), inputs)["params"]

        def loss(params, **choice):
            out = tower.copy(**choice).apply({"params": params}, inputs)
            return jnp.sum(jnp.cos(out["pooled"]))

        def gradient(params, **choice):
            return jax.jit(jax.grad(functools.partial(loss, **choice)))(params)

        expected = gradient(params)
        full = gradient(params, remat="full")
        assert_tree_close(full, expected, 1e-10, zero=key_bias)
        for remat in POLICIES:
            scanned = gradient(stacked(params), scan_layers=True, remat=remat)
            assert_tree_close(scanned, stacked(expected), 1e-10, zero=key_bias)


def key_bias(path):
    """Attention does not see the bias of its keys: the gradient is rounding noise."""
    return np.s_[..., 32:64] if path.endswith("qkv/bias") else None


@pytest.mark.parametrize("pool, tokens", [("cls", 13), ("mean", 12), ("map", 12)])
def test_pools(pool, tokens):
    out, _ = ViT(**VIT, pool=pool).init_with_output(jax.random.key(0), images())
    assert out["tokens"].shape == (3, tokens, 32)
    assert out["pooled"].shape == (3, 32)
    pooled = {"cls": out["tokens"][:, 0], "mean": out["tokens"].mean(1)}
    if pool in pooled:
        np.testing.assert_allclose(out["pooled"], pooled[pool], rtol=1e-6)


def test_unknown_pool():
    with pytest.raises(ClipinError, match="model.image.pool is 'max'"):
        ViT(**VIT, pool="max").init(jax.random.key(0), images())


def test_image_of_another_size_gets_a_resized_table():
    tower = ViT(**VIT)
    variables = tower.init(jax.random.key(0), images())
    assert tower.apply(variables, images(64, 48))["tokens"].shape == (3, 49, 32)
    with pytest.raises(ClipinError, match="30x24 pixels cannot be cut"):
        tower.apply(variables, images(30, 24))


def test_position_resize_equals_open_clip(golden_folder):
    from clipin_jax.models.vit import resize_position_embedding

    arrays = load(golden_folder, "pos_embed_resize.npz").arrays
    cases = {name.partition("/")[0] for name in arrays}
    assert cases
    with jax.enable_x64(True):
        for case in cases:
            old, new = (int(n) for n in case.split("to"))
            got = resize_position_embedding(
                jnp.asarray(arrays[f"{case}/input"]), (old, old), (new, new)
            )
            assert deviation(got, arrays[f"{case}/open_clip"]) < 1e-11, case


def test_padding_after_the_end_token_has_no_effect():
    tower = TextTransformer(**TEXT)
    ids = texts().at[:, 6:].set(0)
    variables = tower.init(jax.random.key(0), ids)
    short, long = (tower.apply(variables, x)["pooled"] for x in (ids[:, :6], ids))
    np.testing.assert_allclose(short, long, rtol=1e-5, atol=1e-6)


def test_the_end_token_is_found_whatever_its_id():
    """In a WordPiece vocabulary it is not the largest one, as in CLIP's."""
    tower = TextTransformer(**TEXT)
    rows = np.array([[2, 9, 5, 3, 0, 0], [2, 5, 3, 0, 0, 0]], np.int32)
    out, _ = tower.init_with_output(jax.random.key(0), rows)
    expected = out["tokens"][jnp.arange(2), jnp.array([3, 2])]
    np.testing.assert_array_equal(out["pooled"], expected)


def test_text_that_is_too_long():
    tower = TextTransformer(**TEXT)
    with pytest.raises(ClipinError, match="texts of 11 tokens do not fit"):
        tower.init(jax.random.key(0), texts(11))


def test_half_precision_keeps_float32_parameters_and_norms():
    tower = ViT(**VIT, dtype=jnp.bfloat16)
    out, variables = tower.init_with_output(jax.random.key(0), images())
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(variables))
    assert out["pooled"].dtype == jnp.bfloat16
    full = ViT(**VIT).apply(variables, images())["pooled"]
    np.testing.assert_allclose(out["pooled"].astype(jnp.float32), full, atol=0.06)


@pytest.mark.slow
def test_initialisation_has_the_published_spread():
    """PyTorch's and CLIP's standard deviations, on matrices large enough to measure."""
    width, depth = 256, 4
    image = ViT((8, 8), (32, 32), width, depth, 4).init(
        jax.random.key(0), images(32, 32)
    )["params"]
    text = TextTransformer(width, depth, 4, 10, 500).init(jax.random.key(0), texts())
    text = text["params"]
    xavier, fan_in = np.sqrt(6 / (4 * width) / 3), np.sqrt(1 / width / 3)
    residual = width**-0.5 * (2 * depth) ** -0.5
    stds = [
        (image["transformer"]["blocks_0"]["attention"]["qkv"]["kernel"], xavier),
        (image["transformer"]["blocks_0"]["mlp_in"]["kernel"], fan_in),
        (image["position_embedding"], width**-0.5),
        (text["transformer"]["blocks_0"]["attention"]["qkv"]["kernel"], width**-0.5),
        (text["transformer"]["blocks_0"]["attention"]["out"]["kernel"], residual),
        (text["transformer"]["blocks_0"]["mlp_in"]["kernel"], (2 * width) ** -0.5),
        (text["transformer"]["blocks_0"]["mlp_out"]["kernel"], residual),
        (text["token_embedding"]["embedding"], 0.02),
        (text["position_embedding"], 0.01),
    ]
    for array, expected in stds:
        assert abs(np.std(array) / expected - 1) < 0.05, (array.shape, expected)
    first, second = (
        image["transformer"][f"blocks_{i}"]["mlp_in"]["kernel"] for i in range(2)
    )
    assert not np.array_equal(first, second)
