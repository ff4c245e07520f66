import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.config import load_config
from clipin_jax.core.sharding import make_mesh
from clipin_jax.errors import ClipinError
from clipin_jax.inference.build import make_encoder
from tests.support.in_memory import (
    STATE,
    Clusters,
    Images,
    function_encoder,
    gray_images,
    pixel_encoder,
)


def one_hot(variables, code):
    row = jax.nn.one_hot(code, 64)
    return {"pooled": row, "embedding": row}


@pytest.fixture(scope="module")
def encoder():
    return function_encoder(
        image=lambda variables, image: one_hot(variables, image[:, 0, 0, 0]),
        text=lambda variables, ids: one_hot(variables, ids[:, 0]),
        image_tokens=lambda variables, image: {
            "tokens": image[:, :1, 0, 0].astype(jnp.float32)[..., None]
        },
        match=lambda variables, tokens, text: {
            "score": 100 * tokens[:, 0, 0] + text[:, 0]
        },
    )


@pytest.mark.parametrize("batch_size", [8, 3, 64])
def test_features_are_in_order_and_complete(encoder, batch_size):
    """Batches are rounded up to the 8 devices, and padded at the end."""
    source = gray_images([[]] * 21)
    features = encoder.images(STATE, source, batch_size)
    np.testing.assert_array_equal(features["embedding"], np.eye(21, 64))
    assert features["pooled"].dtype == np.float32
    texts = encoder.texts(STATE, ["a 3", "a 1", "a 4"], batch_size)
    np.testing.assert_array_equal(texts["embedding"].argmax(axis=1), [3, 1, 4])


class Brightness:
    """A learner whose features are the mean of the pixels."""

    matchers, embedding_from = (), ""

    def objectives_with(self, method):
        return {}

    def apply(self, variables, view, method):
        mean = jnp.mean(view["image"].astype(jnp.float32), axis=(1, 2))
        return {"image": {"pooled": mean, "embedding": mean}}


@pytest.mark.parametrize(("resize", "mean"), [("shortest", 0), ("squash", 255 / 2)])
def test_a_config_says_whether_images_are_cropped_or_squashed(resize, mean):
    wide = np.zeros((8, 16, 3), np.uint8)
    wide[:, :4] = wide[:, 12:] = 255
    overrides = ["model.image.image_size=(8,8)", "data.augment.interpolation=nearest"]
    config = load_config("clip:runlocal", [*overrides, f"data.resize={resize}"])
    encoder = make_encoder(config, Brightness(), make_mesh(data=-1, fsdp=1))
    features = encoder.images(STATE, Images([{"image": wide, "captions": ()}]), 1)
    assert features["pooled"].tolist() == [[mean] * 3]


def test_pairs_are_matched_one_by_one(encoder):
    pairs = np.array([[2, 0], [0, 1], [1, 1], [2, 1]] * 5)
    scores = encoder.matcher()(
        STATE, gray_images([[]] * 3), ["a 7", "a 9"], pairs, batch_size=6
    )
    np.testing.assert_array_equal(scores, [207, 9, 109, 209] * 5)


def test_a_model_without_matching_is_refused_at_once():
    with pytest.raises(ClipinError, match="does not learn to match"):
        function_encoder(match=None).matcher()


def test_an_unknown_similarity_is_refused_with_the_nearest(encoder):
    with pytest.raises(ClipinError, match="similarity is 'predict'.*'prediction'"):
        encoder.comparison("predict")


def test_views_are_new_each_epoch_and_the_same_on_any_devices():
    weak = load_config("quickstart").data.augment.to_dict()
    augment = {**weak, "resize_first": 0, "brightness": 0.4, "flip": 0.0}
    train = Clusters(20, 3)
    first, again, second, alone = (
        pixel_encoder(devices, augment).views(STATE, train, size, seed=3, epoch=epoch)
        for devices, size, epoch in [(8, 8, 0), (8, 16, 0), (8, 8, 1), (1, 7, 0)]
    )
    np.testing.assert_array_equal(first["pooled"], again["pooled"])
    np.testing.assert_array_equal(first["pooled"], alone["pooled"])
    assert (first["pooled"] != second["pooled"]).any()
    still = pixel_encoder(augment=augment).images(STATE, train, 8)["pooled"]
    assert (first["pooled"] != still).any()


@pytest.mark.parametrize("augment", [False, True])
def test_an_image_that_cannot_be_decoded_is_named(augment):
    weak = load_config("quickstart").data.augment.to_dict()
    train = Clusters(4, 2)
    train[2]["image"] = b"no image"
    batches = pixel_encoder(augment=weak).view_batches(
        train, 8, order=np.arange(4), seed=0, epoch=0, augment=augment
    )
    with pytest.raises(ClipinError, match="record 2, image 2, cannot be decoded"):
        list(batches)
