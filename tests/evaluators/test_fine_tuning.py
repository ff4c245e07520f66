from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.config import load_config
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.fine_tuning import FineTuning, with_tower
from clipin_jax.evaluators.probes.linear_head import new_head
from clipin_jax.inference.build import make_encoder
from clipin_jax.runs.build import build_experiment
from tests.support.in_memory import Images, function_encoder
from tests.support.tiny import tiny_config

SIZE, WIDTH = (8, 8), 16


def gray_images(samples: int, seed: int) -> Images:
    """Dark and light images with noise, labeled so."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(samples) % 2)
    records = (
        {
            "image": rng.integers(0, 130, (*SIZE, 3)).astype(np.uint8)
            + np.uint8(100 * label),
            "captions": ("",),
            "label": int(label),
        }
        for label in labels
    )
    return Images(records, ("dark", "light"))


def encode_image(variables, image):
    """A tower of one layer and a norm, in the dtype of its parameters."""
    tower = variables["params"]["towers"]["image"]
    pixels = image.reshape(len(image), -1) / 255 - variables["batch_stats"]
    hidden = jnp.tanh(pixels @ tower["dense"]["kernel"] + tower["dense"]["bias"])
    return {"pooled": (hidden * tower["norm"]["scale"]).astype(jnp.float32)}


@pytest.fixture(scope="module")
def state():
    """The variables of a model, on the host."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(8 * 8 * 3, WIDTH)) / 8
    image = {
        "dense": {"kernel": kernel, "bias": rng.normal(size=WIDTH)},
        "norm": {"scale": np.ones(WIDTH)},
    }
    image = jax.tree.map(lambda x: np.asarray(x, jnp.bfloat16), image)
    params = {"towers": {"image": image, "text": np.ones(3)}, "heads": np.ones(2)}
    variables = {"params": params, "batch_stats": np.float32(0.1)}
    return SimpleNamespace(params=params, variables=variables)


@pytest.fixture(scope="module")
def evaluators():
    """The same on eight devices and on one, at other batch sizes."""
    augment = load_config("quickstart").data.augment.to_dict()

    def make(devices: int, batch_size: int):
        encoder = function_encoder(
            devices=devices, image_size=SIZE, augment=augment, image=encode_image
        )
        return FineTuning(
            encoder,
            source=gray_images(15, 0),
            train_source=gray_images(21, 1),
            batch_size=batch_size,
            train_batch_size=6,
            epochs=10,
            learning_rate=1e-3,
            head_learning_rate=1e-2,
        )

    return make(8, 16), make(1, 4)


def test_it_learns_and_devices_change_nothing(state, evaluators):
    eight, one = (dict(evaluator.run(state)) for evaluator in evaluators)
    assert eight["accuracy"] > 0.8 > eight["chance/accuracy"]
    assert eight == pytest.approx(one, abs=1e-6)


def test_a_float32_copy_learns_and_the_state_does_not_change(state, evaluators):
    """On the device too, where the steps donate their arrays."""
    before = jax.tree.map(np.copy, state.variables)
    placed = jax.device_put(state.variables, jax.devices()[0])
    tower = evaluators[1]._train(placed)["tower"]
    for old, now in zip(
        jax.tree.leaves(before), jax.tree.leaves(jax.device_get(placed)), strict=True
    ):
        np.testing.assert_array_equal(old, now)
    first = state.params["towers"]["image"]
    for old, new in zip(jax.tree.leaves(first), jax.tree.leaves(tower), strict=True):
        assert new.dtype == np.float32
        assert np.abs(old.astype(np.float32) - new).max() > 1e-4


def test_a_step_of_a_real_tower_has_a_gradient_for_each_parameter():
    """By shapes alone; nothing is computed."""
    config = tiny_config("model.image.depth=1", "model.text.depth=1")
    experiment = build_experiment(config, jax.devices()[:1])
    encoder = make_encoder(config, experiment.learner, experiment.mesh)
    sources = dict(source=gray_images(4, 0), train_source=gray_images(4, 1))
    evaluator = FineTuning(encoder, **sources)
    variables = experiment.abstract_state.variables
    tower = variables["params"]["towers"]["image"]
    trained = {"tower": tower, "head": new_head(config.model.image.width, 2, seed=0)}
    batch = {
        "image": np.zeros((6, *encoder.image_size, 3), np.uint8),
        "members": np.zeros((6, 2), np.float32),
        "mask": np.ones(6, bool),
    }
    moments = jax.eval_shape(evaluator._optimizer.init, trained)
    step = jax.eval_shape(evaluator._update, trained, moments, variables, batch)
    assert jax.tree.structure(step) == jax.tree.structure((trained, moments))
    assert len(jax.tree.leaves(step[0]["tower"])) > 10


def test_weight_decay_excludes_biases_and_norms(state, evaluators):
    optimizer, tower = evaluators[1]._optimizer, state.params["towers"]["image"]
    tower = jax.tree.map(lambda x: np.asarray(x, np.float32), tower)
    trained = {"tower": tower, "head": {"kernel": np.ones((2, 2), np.float32)}}
    gradient = jax.tree.map(np.zeros_like, trained)
    moments = optimizer.init(trained)
    updates, _ = jax.jit(optimizer.update)(gradient, moments, trained)
    moved = {
        path[-1].key: bool(np.any(np.asarray(update)))
        for path, update in jax.tree_util.tree_leaves_with_path(updates["tower"])
    }
    assert moved == {"kernel": True, "bias": False, "scale": False}
    assert not np.any(updates["head"]["kernel"])


def test_every_image_is_in_every_epoch(evaluators):
    for evaluator in evaluators:
        batches = list(evaluator._batches(epoch=0))
        assert len(batches) == 4
        assert sum(batch["mask"].sum() for batch in batches) == 21
        assert [batch["mask"].sum() for batch in batches] == [6, 6, 6, 3]


def test_with_tower_replaces_only_the_image_tower():
    params = {"towers": {"image": 1, "text": 2}, "heads": 3}
    assert with_tower({"params": params, "batch_stats": 4}, 5) == {
        "params": {"towers": {"image": 5, "text": 2}, "heads": 3},
        "batch_stats": 4,
    }
    assert params["towers"]["image"] == 1


def test_wrong_numbers(evaluators):
    encoder = evaluators[0]._encoder
    sources = dict(source=gray_images(4, 0), train_source=gray_images(4, 1))
    with pytest.raises(ClipinError, match="epochs and train_batch_size"):
        FineTuning(encoder, **sources, train_batch_size=0)
