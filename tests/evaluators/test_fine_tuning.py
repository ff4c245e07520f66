import jax
import numpy as np
import pytest

from clipin_jax.core import sharding
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.fine_tuning import FineTuning, with_tower
from clipin_jax.inference.encode_fns import make_encode_fns
from clipin_jax.inference.encoder import Encoder
from clipin_jax.runs.build import build_experiment
from tests.support.tiny import tiny_config

SIZE = (32, 32)
SHALLOW = ("model.image.depth=1", "model.text.depth=1")


class GrayImages(list):
    """Dark and light images, labeled so."""

    fingerprint = "images"
    classes = ("dark", "light")

    def __init__(self, samples: int, seed: int):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.arange(samples) % 2)
        super().__init__(
            {
                "image": rng.integers(0, 130, (*SIZE, 3)).astype(np.uint8)
                + np.uint8(100 * label),
                "captions": ("",),
                "label": int(label),
            }
            for label in labels
        )

    def annotations(self, index):
        return self[index]

    def describe(self, index):
        return f"image {index}"


@pytest.fixture(scope="module")
def trained():
    run = build_experiment(tiny_config(*SHALLOW), jax.devices()[:1])
    return run, jax.device_get(run.init_state())


@pytest.fixture(scope="module")
def evaluators(trained):
    """The same on eight devices and on one, at other batch sizes."""

    def make(devices: int, batch_size: int):
        run, _ = trained
        encoder = Encoder(
            make_encode_fns(run.learner),
            mesh=sharding.make_mesh(data=-1, fsdp=1, devices=jax.devices()[:devices]),
            tokenizer=lambda texts: np.zeros((len(texts), 12), np.int32),
            image_size=SIZE,
            interpolation="bicubic",
            augment=run.config.data.augment.to_dict(),
        )
        return FineTuning(
            encoder,
            source=GrayImages(15, 0),
            train_source=GrayImages(21, 1),
            batch_size=batch_size,
            train_batch_size=6,
            epochs=3,
            learning_rate=1e-3,
            head_learning_rate=1e-2,
        )

    return make(8, 16), make(1, 4)


@pytest.fixture(scope="module")
def results(trained, evaluators):
    _, state = trained
    return [dict(evaluator.run(state)) for evaluator in evaluators]


def test_it_learns_and_devices_change_nothing(results):
    eight, one = results
    assert eight["accuracy"] > 0.8 > eight["chance/accuracy"]
    assert eight == pytest.approx(one, abs=1e-6)


def test_the_state_stays_what_it_is(trained, evaluators):
    """On the device too, where the steps give their arrays away."""
    _, state = trained
    before = jax.tree.map(np.copy, state)
    placed = jax.device_put(state, jax.devices()[0])
    tower = evaluators[1]._train(placed.variables)["tower"]
    for old, now in zip(
        jax.tree.leaves(before), jax.tree.leaves(jax.device_get(placed)), strict=True
    ):
        np.testing.assert_array_equal(old, now)
    begin = state.params["towers"]["image"]
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), begin, tower)
    # A bias of keys shifts all logits of a softmax alike: only those stand still.
    still = [path for path, x in jax.tree_util.tree_leaves_with_path(moved) if x < 1e-7]
    assert len(still) < 0.2 * len(jax.tree.leaves(moved))


def test_weight_decay_spares_biases_and_norms(trained, evaluators):
    _, state = trained
    evaluator = evaluators[1]
    tower = state.params["towers"]["image"]
    trained_part = {"tower": tower, "head": {"kernel": np.ones((2, 2), np.float32)}}
    none = jax.tree.map(np.zeros_like, trained_part)
    moments = evaluator._optimizer.init(trained_part)
    updates, _ = jax.jit(evaluator._optimizer.update)(none, moments, trained_part)
    for path, update in jax.tree_util.tree_leaves_with_path(updates["tower"]):
        name = path[-1].key
        weights = tower
        for key in path:
            weights = weights[key.key]
        moved = bool(np.any(np.asarray(update)))
        assert moved == (name not in ("bias", "scale") and bool(np.any(weights))), path
    assert not np.any(updates["head"]["kernel"])


def test_every_image_is_in_every_epoch(evaluators):
    for evaluator in evaluators:
        batches = list(evaluator._batches(epoch=0))
        assert len(batches) == 4
        assert sum(batch["mask"].sum() for batch in batches) == 21
        assert [batch["mask"].sum() for batch in batches] == [6, 6, 6, 3]


def test_another_tower_changes_nothing_else():
    params = {"towers": {"image": 1, "text": 2}, "heads": 3}
    assert with_tower({"params": params, "batch_stats": 4}, 5) == {
        "params": {"towers": {"image": 5, "text": 2}, "heads": 3},
        "batch_stats": 4,
    }
    assert params["towers"]["image"] == 1


def test_wrong_numbers(evaluators):
    encoder = evaluators[0]._encoder
    sources = dict(source=GrayImages(4, 0), train_source=GrayImages(4, 1))
    with pytest.raises(ClipinError, match="epochs and train_batch_size"):
        FineTuning(encoder, **sources, train_batch_size=0)
