"""The fused kernel, interpreted, against the plain path; and which of them runs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, PartitionSpec

from clipin_jax.config import load_config
from clipin_jax.core import sharding
from clipin_jax.core.learner import build
from clipin_jax.errors import ClipinError
from clipin_jax.models.attention import choice, fused
from clipin_jax.models.attention.plain import attend
from clipin_jax.models.attention.taps import TAPS
from clipin_jax.models.text_transformer import TextTransformer
from clipin_jax.models.vit import ViT
from tests.support.tiny import tiny_config


def plain(qkv, bias, num_heads, causal, mask=None):
    batch, length, width = qkv.shape
    heads = (batch, length, num_heads, width // 3 // num_heads)
    query, key, value = (x.reshape(heads) for x in jnp.split(qkv + bias, 3, axis=-1))
    y = attend(query, key, value, causal=causal, mask=mask)
    return y.reshape(batch, length, -1)


def inputs(batch, length, width, dtype=jnp.float32):
    """Returns queries, keys and values, their bias, and a gradient of the output."""
    keys = jax.random.split(jax.random.key(0), 3)
    qkv = jax.random.normal(keys[0], (batch, length, 3 * width), dtype)
    bias = 0.1 * jax.random.normal(keys[2], (3 * width,), dtype)
    return qkv, bias, jax.random.normal(keys[1], (batch, length, width), dtype)


def pull_back(function, qkv, bias, gradient):
    """Returns the output and the gradients by qkv and by the bias."""
    out, pull = jax.vjp(function, qkv, bias)
    return out, *pull(gradient)


def all_of(function, arrays):
    return jax.jit(partial(pull_back, function))(*arrays)


def assert_equal(got, expected, tolerance=1e-6):
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype == theirs.dtype
        ours, theirs = (np.asarray(x, np.float64) for x in (ours, theirs))
        assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


@pytest.mark.parametrize(
    ("length", "num_heads", "size", "causal"),
    [
        (197, 2, 64, False),
        (197, 2, 64, True),
        (77, 4, 64, True),
        (77, 4, 32, False),
        (50, 4, 32, True),
        (50, 3, 64, False),  # no whole pairs
        (50, 1, 128, False),
    ],
)
def test_kernel_equals_the_plain_path(length, num_heads, size, causal):
    arrays = inputs(2, length, num_heads * size)
    with fused.interpreted():
        got = all_of(
            lambda x, bias: fused.fused_attention(x, bias, num_heads, causal=causal),
            arrays,
        )
    expected = all_of(lambda x, bias: plain(x, bias, num_heads, causal), arrays)
    assert_equal(got, expected)


@pytest.mark.parametrize("causal", [False, True])
def test_kernel_leaves_out_masked_positions(causal):
    arrays = inputs(3, 10, 64)
    # The first example has no padding, the last one nothing to attend to at first.
    mask = np.arange(10) < np.array([[10], [4], [10]])
    mask[2, :3] = False
    mask = jnp.asarray(mask[:, None, None])
    with fused.interpreted():
        got = all_of(
            lambda x, bias: fused.fused_attention(x, bias, 2, causal=causal, mask=mask),
            arrays,
        )
    assert_equal(got, all_of(lambda x, bias: plain(x, bias, 2, causal, mask), arrays))


def test_half_precision_differs_by_rounding_alone():
    arrays = inputs(2, 50, 128, jnp.bfloat16)
    exact = all_of(
        lambda x, bias: plain(x, bias, 2, False), [x.astype("float32") for x in arrays]
    )
    with fused.interpreted():
        got = all_of(
            lambda x, bias: fused.fused_attention(x, bias, 2, causal=False), arrays
        )
    assert {x.dtype for x in got} == {jnp.dtype("bfloat16")}
    assert_equal([x.astype("float32") for x in got], exact, 1e-2)


@pytest.fixture
def mesh():
    mesh = sharding.make_mesh(data=2, fsdp=2, devices=jax.devices()[:8], dcn=2)
    with jax.set_mesh(mesh):
        yield mesh


def test_every_device_runs_the_kernel_on_its_rows(mesh):
    qkv, bias, gradient = inputs(16, 50, 64)
    expected = all_of(lambda x, bias: plain(x, bias, 2, True), (qkv, bias, gradient))
    qkv, gradient = sharding.put((qkv, gradient), mesh)

    def run(qkv, bias):
        return fused.fused_attention(qkv, bias, 2, causal=True)

    with fused.interpreted():
        got = all_of(run, (qkv, bias, gradient))
        text = str(jax.jit(run).lower(qkv, bias).compile().as_text())
    assert_equal(got, expected)
    assert got[0].addressable_shards[0].data.shape == (2, 50, 64)
    assert "all-gather" not in text and "all-reduce" not in text


def test_inside_shard_map_the_kernel_takes_the_rows_as_they_are(mesh):
    arrays = inputs(8, 50, 64)
    split, whole = PartitionSpec(mesh.axis_names), PartitionSpec()

    def inside(*arrays):
        out, by_qkv, by_bias = pull_back(
            lambda x, bias: fused.fused_attention(x, bias, 2, causal=False), *arrays
        )
        return out, by_qkv, jax.lax.psum(by_bias, mesh.axis_names)

    with fused.interpreted():
        got = jax.jit(
            jax.shard_map(
                inside,
                in_specs=(split, whole, split),
                out_specs=(split, split, whole),
                check_vma=False,
            )
        )(*arrays)
    assert_equal(got, all_of(lambda x, bias: plain(x, bias, 2, False), arrays))


def test_kernel_takes_what_it_can():
    half = jax.ShapeDtypeStruct((16, 197, 3 * 768), jnp.bfloat16)
    assert fused.fits(half)
    assert fused.fits(half.update(dtype=jnp.float32))
    assert not fused.fits(half.update(dtype=jnp.float16))
    assert not fused.fits(half.update(dtype=jnp.float64))
    assert not fused.fits(half.update(shape=(16, 577, 3 * 768)))  # too long
    assert fused.fits(half, jax.ShapeDtypeStruct((16, 1, 1, 197), bool))
    assert not fused.fits(half, jax.ShapeDtypeStruct((16, 1, 197, 197), bool))


def test_batch_that_the_mesh_does_not_divide_is_plain(mesh):
    with fused.interpreted():
        assert choose("fused", batch=16) == "fused"
        assert choose("fused", batch=12) == "plain"


def choose(implementation, *, batch=8, size=64, dtype=jnp.bfloat16):
    qkv = jax.ShapeDtypeStruct((batch, 50, 3 * 2 * size), dtype)
    return choice.choose_kernel(implementation, qkv, num_heads=2)


def test_platform_chooses(monkeypatch):
    rows = {  # auto, plain, fused, cudnn
        "cpu": ["plain", "plain", "plain", "plain"],
        "tpu": ["fused", "plain", "fused", "plain"],
        "gpu": ["cudnn", "plain", "plain", "cudnn"],
    }
    monkeypatch.setattr(choice, "_is_ampere_or_later", lambda: True)
    for platform, row in rows.items():
        monkeypatch.setattr(choice, "platform_of_devices", lambda p=platform: p)
        assert [choose(name) for name in choice.IMPLEMENTATIONS] == row, platform
    # The last one is a GPU.
    assert choose("cudnn", dtype=jnp.float16) == "cudnn"
    assert choose("cudnn", dtype=jnp.float32) == "plain"
    assert choose("cudnn", size=160) == "plain"
    monkeypatch.setattr(choice, "_is_ampere_or_later", lambda: False)
    assert choose("cudnn") == "plain"


def test_cudnn_is_asked_for_heads_without_a_mask(monkeypatch):
    calls = []

    def record(query, key, value, **options):
        calls.append(options)
        return query

    monkeypatch.setattr(jax.nn, "dot_product_attention", record)
    monkeypatch.setattr(choice, "platform_of_devices", lambda: "gpu")
    monkeypatch.setattr(choice, "_is_ampere_or_later", lambda: True)
    qkv, bias, _ = inputs(2, 5, 64, jnp.bfloat16)
    choice.self_attend(qkv, bias, 2, "cudnn", causal=True)
    mask = jnp.ones((2, 1, 1, 5), bool)
    choice.self_attend(qkv, bias, 2, "cudnn", causal=True, mask=mask)
    assert [call["implementation"] for call in calls] == ["cudnn", None]
    assert calls[0]["is_causal"]


def test_platform_is_that_of_the_mesh(mesh):
    assert choice.platform_of_devices() == "cpu"
    absent = AbstractDevice(device_kind="TPU v5 lite", num_cores=1, platform="tpu")
    kinds = (AxisType.Auto,)
    with jax.sharding.use_abstract_mesh(
        AbstractMesh((8,), ("data",), kinds, abstract_device=absent)
    ):
        assert choice.platform_of_devices() == "tpu"


@pytest.fixture
def calls(monkeypatch):
    """The calls of the kernel."""
    calls, kernel = [], fused.fused_attention

    def record(*args, **options):
        calls.append(options)
        return kernel(*args, **options)

    monkeypatch.setattr(fused, "fused_attention", record)
    return calls


VIT = dict(patch_size=(8, 8), image_size=(32, 24), width=32, depth=2, num_heads=2)


@pytest.mark.parametrize("stack", [{}, dict(scan_layers=True, remat="full")], ids=str)
def test_towers_run_the_kernel(calls, stack):
    text = TextTransformer(
        width=32, depth=2, num_heads=2, context_length=10, vocab_size=50, **stack
    )
    ids = jax.random.randint(jax.random.key(1), (3, 10), 1, 49)
    params = text.init(jax.random.key(0), ids)

    def gradient(tower):
        def loss(params):
            return jnp.sum(jnp.cos(tower.apply(params, ids)["pooled"]))

        return jax.jit(jax.grad(loss))(params)

    expected = gradient(text.copy(attention="plain"))
    assert not calls
    with fused.interpreted():
        got = gradient(text.copy(attention="fused"))
    assert calls and all(call["causal"] for call in calls)
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, got, expected)


def test_taps_masks_of_pairs_and_float64_are_plain(calls):
    image = jax.random.normal(jax.random.key(0), (3, 32, 24, 3))
    vit = ViT(**VIT, attention="fused")
    with fused.interpreted():
        variables = vit.init(jax.random.key(0), image)
        calls.clear()
        vit.apply(variables, image)
        assert len(calls) == 2
        calls.clear()
        vit.apply(variables, image, mutable=[TAPS])
        qkv, bias, _ = inputs(2, 5, 64)
        mask = jnp.ones((2, 1, 5, 5), bool)
        choice.self_attend(qkv, bias, 2, "fused", causal=True, mask=mask)
        with jax.enable_x64(True):
            wide = qkv.astype("float64"), bias.astype("float64")
            choice.self_attend(*wide, 2, "fused", causal=True)
    assert not calls


def test_unknown_attention_is_refused():
    image = jnp.zeros((1, 32, 24, 3))
    message = "model.attention is 'fussed': did you mean 'fused'"
    with pytest.raises(ClipinError, match=message):
        ViT(**VIT, attention="fussed").init(jax.random.key(0), image)
    with pytest.raises(ClipinError, match=message):
        build(tiny_config("model.attention=fussed"))


def test_config_reaches_the_towers_that_have_the_field():
    towers = build(tiny_config("model.attention=plain")).towers
    assert towers.image.attention == towers.text.attention == "plain"
    config = load_config("clip:runlocal,tower=RN50", ("model.attention=fused",))
    towers = build(config).towers
    assert towers.text.attention == "fused"
    assert not hasattr(towers.image, "attention")
