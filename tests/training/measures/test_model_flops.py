import jax
import jax.numpy as jnp
import pytest

from clipin_jax.models.attention import fused
from clipin_jax.models.remat import computed_again
from clipin_jax.runs.build import build_experiment
from clipin_jax.runs.train_program import jit_train_step
from clipin_jax.training.measures.model_flops import count_flops, step_flops
from tests.support.tiny import tiny_config

TINY = ("model.image.depth=1", "model.text.depth=1")


def flops(*overrides: str, clipin: bool = False) -> float:
    """Returns the count of a tiny step on two devices."""
    config = tiny_config(*TINY, *overrides, clipin=clipin)
    run = build_experiment(config, jax.devices()[:2])
    with jax.set_mesh(run.mesh):
        return step_flops(jit_train_step(run), run)


def count(function, *shapes: tuple[int, ...]) -> float:
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return count_flops(jax.jit(function).trace(*arguments).jaxpr.jaxpr)


@pytest.fixture(scope="module")
def plain() -> float:
    return flops("model.attention=plain")


def test_products_of_a_tower_forward_and_backward():
    config = tiny_config(*TINY, clipin=False)
    image, text = config.model.image, config.model.text
    patches = 16  # 32 x 32 pixels in patches of 8
    forward = 2 * patches * 192 * image.width
    for tower, tokens in ((image, patches + 1), (text, text.context_length)):
        mlp = 4
        matrices = (4 + 2 * mlp) * tower.width**2 * tokens
        attention = 2 * tokens**2 * tower.width
        forward += 2 * tower.depth * (matrices + attention)
        forward += 2 * tower.width * config.model.embed_dim
    forward *= config.batch_size
    forward += 2 * config.batch_size**2 * config.model.embed_dim  # logits
    # Pixels have no gradient: the first product has one product in the backward pass.
    pixels = 2 * patches * 192 * image.width * config.batch_size
    assert flops() == 3 * forward - pixels


@pytest.mark.parametrize(
    "overrides",
    [
        ("model.remat.image=full", "model.remat.text=dots"),
        ("model.scan_layers=True", "model.remat.image=full"),
        ("objectives.contrastive.impl=chunked",),
        ("objectives.contrastive.impl=ring", "micro_batches=4"),
        ("optim.name=muon",),
        ("data.augment_on=device", "data.augment.resize_first=48"),
    ],
)
def test_what_is_computed_again_or_is_no_model_does_not_count(plain, overrides):
    assert flops(*overrides) == plain


def test_a_kernel_counts_like_the_plain_path(plain):
    with fused.interpreted():
        assert flops("model.attention=fused") == plain


def test_the_target_branch_counts_once():
    # Two predictors and projectors more forward and backward, the towers once more.
    assert 4 / 3 < flops(clipin=True) / flops() < 1.5
    again = "model.remat.image=full", "model.remat.text=full", "micro_batches=2"
    assert flops(*again, clipin=True) == flops(clipin=True)


def test_products_in_loops_conditions_and_convolutions():
    def product(x):
        return x @ x

    n = 2 * 8**3
    assert count(product, (8, 8)) == n
    assert count(lambda x: jax.lax.fori_loop(0, 5, lambda _, x: x @ x, x), (8, 8)) == (
        5 * n
    )

    def branches(x):
        return jax.lax.cond(x[0, 0] > 0, lambda: x @ x @ x, lambda: x @ x)

    assert count(branches, (8, 8)) == 2 * n

    def strided(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    shapes = (2, 8, 8, 3), (2, 2, 3, 5)
    forward = 2 * (2 * 4 * 4 * 5) * (2 * 2 * 3)
    assert count(strided, *shapes) == forward

    def gradient(x, kernel):
        return jax.grad(lambda *a: jnp.sum(strided(*a) ** 2), (0, 1))(x, kernel)

    assert count(gradient, *shapes) == 3 * forward


def test_a_second_time_does_not_count():
    def twice(x):
        with computed_again():
            y = jnp.sin(x) @ x
        return y @ x

    assert count(twice, (8, 8)) == 2 * 8**3


def test_kernels_of_cudnn_count_their_products(monkeypatch):
    from jax._src.cudnn import fused_attention_stablehlo as cudnn

    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(cudnn, "check_compute_capability", lambda _: True)

    def attend(query, key, value):
        y = jax.nn.dot_product_attention(query, key, value, implementation="cudnn")
        return jnp.sum(y.astype(jnp.float32))

    shapes = [(2, length, 4, 64) for length in (128, 256, 256)]
    arguments = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in shapes]
    traced = jax.jit(jax.grad(attend, (0, 1, 2))).trace(*arguments)
    product = 2 * 2 * 4 * 64 * 128 * 256
    assert count_flops(traced.jaxpr.jaxpr) == 6 * product
