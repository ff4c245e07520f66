from types import SimpleNamespace

import numpy as np

from clipin_jax.inference.encode_fns import PredictionFns
from clipin_jax.inference.feature_cache import FeatureCache
from tests.support.in_memory import Clusters, function_encoder, pixel_features


class Calls:
    """Encodes to the number of the call."""

    def __init__(self):
        self.number = 0

    def __call__(self):
        self.number += 1
        return {"pooled": np.full((2, 3), self.number, np.float32)}


def image_fn(variables, image): ...


def target_fn(variables, image): ...


def test_features_are_kept_for_the_same_function_source_and_variables():
    cache, calls, variables = FeatureCache(), Calls(), {"a": np.zeros(1)}
    one, other = [1], [1]

    def get(function=image_fn, variables=variables, source=one, batch_size=8):
        features = cache.get(function, variables, source, batch_size, encode=calls)
        return int(features["pooled"][0, 0])

    assert [get(), get(), get(source=other), get(batch_size=4)] == [1, 1, 2, 3]
    assert get(target_fn, variables={"b": np.zeros(1)}) == 4
    assert [get(), get(source=other)] == [1, 2]
    # Equal variables that are other arrays; what is of another function stays.
    assert [get(variables={"a": np.zeros(1)}), get()] == [5, 6]
    assert calls.number == 6


def test_the_oldest_features_are_dropped_first():
    cache, calls = FeatureCache(max_bytes=2 * 24), Calls()
    sources = [[number] for number in range(3)]
    for source in (*sources, sources[2], sources[1], sources[0]):
        cache.get(image_fn, (), source, 8, encode=calls)
    assert calls.number == 4


class CountedImages(Clusters):
    reads = 0

    def __getitem__(self, index):
        self.reads += 1
        return super().__getitem__(index)


def test_an_encoder_with_a_cache_reads_each_image_once():
    def target_image(variables, image):
        features = pixel_features(variables, image)["embedding"]
        return {"embedding": features * variables["scale"]}

    encoder = function_encoder(
        image=pixel_features,
        text=pixel_features,
        prediction=lambda context_length: PredictionFns(target_image, pixel_features),
        image_size=(2, 2),
        cache=FeatureCache(),
    )
    source = CountedImages(6, 2)
    state = SimpleNamespace(variables=(), target_variables={"scale": np.float32(2)})
    features = encoder.images(state, source, 8)["embedding"]
    again = encoder.comparison("contrastive").images(state, source, 8)
    np.testing.assert_array_equal(features, again)
    assert source.reads == 6
    predicted = encoder.comparison("prediction").images(state, source, 8)
    np.testing.assert_array_equal(predicted, 2 * features)
    encoder.comparison("prediction").images(state, source, 8)
    encoder.images(state, source, 8)
    assert source.reads == 12
