"""The sigmoid objective, and the tower options that come with it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import unit
from clipin_jax.models.text_transformer import TextTransformer
from clipin_jax.models.vit import ViT
from clipin_jax.objectives.losses import sigmoid_contrastive
from clipin_jax.objectives.sigmoid import Sigmoid
from tests.support.objective_inputs import objective_inputs

VIT = dict(patch_size=(8, 8), image_size=(32, 32), width=32, depth=1, num_heads=2)
TEXT = dict(width=32, depth=1, num_heads=2, context_length=10, vocab_size=50)
END = 49


def directions(seed, rows=6, width=20):
    return unit(jax.random.normal(jax.random.key(seed), (rows, width)))


def inputs(image, text):
    features = {"image": {"embedding": image}, "text": {"embedding": text}}
    return objective_inputs(features)


def texts():
    """Rows that are padded with the end mark from place 5 on."""
    ids = jax.random.randint(jax.random.key(1), (3, 10), 1, END)
    return ids.at[:, 5:].set(END)


def images():
    return jax.random.normal(jax.random.key(0), (3, 32, 32, 3))


def test_loss_against_a_loop():
    logits = np.asarray(jax.random.normal(jax.random.key(0), (5, 5))) * 3
    total = 0.0
    for i in range(5):
        for j in range(5):
            sign = 1 if i == j else -1
            total += np.log(1 + np.exp(-sign * logits[i, j])) / 5
    np.testing.assert_allclose(sigmoid_contrastive(logits), total, rtol=1e-5)
    nothing = sigmoid_contrastive(jnp.zeros((8, 8)))
    np.testing.assert_allclose(nothing, 8 * np.log(2), rtol=1e-6)


def test_loss_is_finite_where_the_exponential_is_not():
    logits = 1e4 * (1 - 2 * jnp.eye(4))  # as wrong as can be
    value, gradient = jax.value_and_grad(sigmoid_contrastive)(logits)
    np.testing.assert_allclose(value, 4e4)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(sigmoid_contrastive(-logits), 0)


def test_objective_starts_at_its_temperature_and_offset():
    image, text = directions(0), directions(1)
    objective = Sigmoid(init_temperature=0.25, init_bias=-3.0)
    (loss, metrics), variables = objective.init_with_output(
        jax.random.key(0), inputs(image, text)
    )
    assert jax.tree.map(float, variables["params"]) == {
        "logit_scale": pytest.approx(np.log(4)),
        "logit_bias": -3.0,
    }
    assert float(metrics["logit_scale"]) == pytest.approx(4.0)
    assert float(metrics["logit_bias"]) == -3.0
    expected = sigmoid_contrastive(4 * image @ text.T - 3)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_objective_does_not_depend_on_the_order_of_the_batch():
    image, text = directions(0), directions(1)
    objective = Sigmoid()
    variables = objective.init(jax.random.key(0), inputs(image, text))
    loss, metrics = objective.apply(variables, inputs(image, text))
    shuffled = np.random.default_rng(0).permutation(6)
    again, _ = objective.apply(variables, inputs(image[shuffled], text[shuffled]))
    np.testing.assert_allclose(again, loss, rtol=1e-6)
    perfect, metrics = objective.apply(variables, inputs(image, image))
    assert perfect < loss
    assert metrics["image_to_text_accuracy"] == metrics["text_to_image_accuracy"] == 1


def test_the_last_position_is_pooled_and_attends_to_all_others():
    ids = texts()
    tower = TextTransformer(**TEXT, causal=False, pool="last")
    out, variables = jax.jit(tower.init_with_output)(jax.random.key(0), ids)
    np.testing.assert_array_equal(out["pooled"], out["tokens"][:, -1])
    changed = jax.jit(tower.apply)(variables, ids.at[:, 0].set(7))
    assert not np.allclose(changed["pooled"], out["pooled"], atol=1e-4)


@pytest.mark.parametrize("causal", [True, False])
def test_only_the_mask_hides_later_tokens(causal):
    ids = texts()
    tower = TextTransformer(**TEXT, causal=causal)
    out, variables = jax.jit(tower.init_with_output)(jax.random.key(0), ids)
    changed = jax.jit(tower.apply)(variables, ids.at[:, -1].set(7))
    same = np.allclose(changed["tokens"][:, 0], out["tokens"][:, 0], atol=1e-5)
    assert same == causal


def shapes(tower):
    return jax.eval_shape(tower.init, jax.random.key(0), images())["params"]


def test_plain_vit_has_a_patch_bias_and_no_norm_before_its_blocks():
    plain = ViT(**VIT, patch_bias=True, pre_norm=False)
    params, default = shapes(plain), shapes(ViT(**VIT))
    assert set(default) - set(params) == {"ln_pre"}
    assert set(params["patch_embed"]) == {"kernel", "bias"}
    assert set(default["patch_embed"]) == {"kernel"}


def test_attention_pooling_has_the_perceptron_of_the_blocks():
    tower = ViT(**VIT, mlp_ratio=3, pool="map")
    pool = shapes(tower)["pool"]
    assert pool["mlp_in"]["kernel"].shape == (32, 96)
    assert pool["query"].shape == (1, 32)


def test_xavier_initialisation_has_the_published_spread():
    width = 256
    image = ViT((8, 8), (32, 32), width, 1, 4, pool="map", patch_bias=True,
                initializer="xavier")  # fmt: skip
    image = jax.jit(image.init)(jax.random.key(0), images())["params"]
    text = TextTransformer(width, 1, 4, 10, 500, initializer="xavier")
    text = jax.jit(text.init)(jax.random.key(0), texts())["params"]
    square, mlp = np.sqrt(1 / width), np.sqrt(2 / (5 * width))
    for tower in (image, text):
        block = tower["transformer"]["blocks_0"]
        for kernel in np.split(block["attention"]["qkv"]["kernel"], 3, axis=1):
            assert abs(kernel.std() / square - 1) < 0.02
            assert abs(np.abs(kernel).max() / (square * np.sqrt(3)) - 1) < 0.01
        check_spread(block["attention"]["out"]["kernel"], square)
        check_spread(block["mlp_in"]["kernel"], mlp)
        check_spread(block["mlp_out"]["kernel"], mlp)
        check_spread(block["mlp_in"]["bias"], 1e-6)
        assert not np.any(block["attention"]["qkv"]["bias"])
    check_spread(image["patch_embed"]["kernel"], (8 * 8 * 3) ** -0.5)
    check_spread(image["position_embedding"], width**-0.5)
    check_spread(text["position_embedding"], width**-0.5)
    check_spread(text["token_embedding"]["embedding"], width**-0.5)
    check_spread(image["pool"]["key_in"]["kernel"], square)
    check_spread(image["pool"]["mlp_out"]["bias"], 1e-6)
    biases = (image["patch_embed"], image["pool"]["query_in"], image["pool"]["out"])
    assert not any(np.any(layer["bias"]) for layer in biases)


def check_spread(array, expected):
    assert abs(np.std(array) / expected - 1) < 0.15, (array.shape, expected)


@pytest.mark.parametrize(
    "tower, message",
    [
        (ViT(**VIT, initializer="xaver"), "model.image.initializer is 'xaver'.*xavier"),
        (TextTransformer(**TEXT, pool="cls"), "model.text.pool is 'cls'.*end, last"),
        (
            TextTransformer(**TEXT, initializer="pytorch"),
            "model.text.initializer is 'pytorch'.*normal, xavier",
        ),
    ],
)
def test_unknown_options_are_refused(tower: nn.Module, message: str):
    batch = images() if isinstance(tower, ViT) else texts()
    with pytest.raises(ClipinError, match=message):
        tower.init(jax.random.key(0), batch)
