from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.core import sharding
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.retrieval import Retrieval
from clipin_jax.inference.encoder import Encoder

SIZE = 8
ONE_HOT = SimpleNamespace(variables={"scale": jnp.ones(())})


class Pictures(list):
    """A source in memory."""

    classes = ()
    fingerprint = "pictures"

    def annotations(self, index):
        return self[index]

    def describe(self, index):
        return "in memory"


def picture(code: int) -> np.ndarray:
    return np.full((SIZE, SIZE, 3), code, np.uint8)


def tokens(texts):
    """The number in a text is all that there is to know of it."""
    return np.asarray([[int(text.split()[-1])] for text in texts], np.int32)


def encode_code(variables, code):
    row = jax.nn.one_hot(code, 64) * variables["scale"]
    return {"pooled": row, "embedding": row}


FAKE = SimpleNamespace(
    image=lambda variables, image: encode_code(variables, image[:, 0, 0, 0]),
    text=lambda variables, ids: encode_code(variables, ids[:, 0]),
)


@pytest.fixture(scope="module")
def encoder():
    return Encoder(
        FAKE,
        mesh=sharding.make_mesh(data=-1, fsdp=1),
        tokenizer=tokens,
        image_size=(SIZE, SIZE),
        interpolation="bicubic",
    )


def pictures(captions: list[list[int]]) -> Pictures:
    return Pictures(
        {"image": picture(i), "captions": tuple(f"picture {c}" for c in own)}
        for i, own in enumerate(captions)
    )


def test_features_come_in_order_and_whole(encoder):
    source = pictures([[i] for i in range(21)])
    features = encoder.images(ONE_HOT.variables, source, 8)
    np.testing.assert_array_equal(features["embedding"], np.eye(21, 64))
    assert features["pooled"].dtype == np.float32
    texts = encoder.texts(ONE_HOT.variables, ["a 3", "a 1", "a 4"], 8)
    np.testing.assert_array_equal(texts["embedding"].argmax(1), [3, 1, 4])


def test_batch_size_is_rounded_to_the_devices(encoder):
    source = pictures([[i] for i in range(5)])
    features = encoder.images(ONE_HOT.variables, source, 3)
    np.testing.assert_array_equal(features["embedding"], np.eye(5, 64))


def test_perfect_retrieval(encoder):
    source = pictures([[i, i] for i in range(19)])
    values = dict(Retrieval(encoder, source=source, batch_size=8).run(ONE_HOT))
    assert values["image_to_text_R@1"] == values["text_to_image_R@1"] == 1
    assert values["mean_recall"] == 1
    assert values["text_to_image_median_rank"] == 1
    assert values["chance/text_to_image_R@1"] == pytest.approx(1 / 19)
    assert values["chance/image_to_text_R@1"] == pytest.approx(2 / 38)
    assert values["chance/text_to_image_median_rank"] == 10
    assert all(type(v) is float for v in values.values())


def test_any_own_caption_is_a_hit_for_its_image(encoder):
    source = pictures([[i, 60] for i in range(9)])
    retrieval = Retrieval(encoder, source=source, batch_size=16)
    values = dict(retrieval.run(ONE_HOT))
    assert values["image_to_text_R@1"] == 1
    # The second caption of each fits no picture: all images tie, so it comes last.
    assert values["text_to_image_R@1"] == values["text_to_image_R@5"] == 0.5
    first = dict(
        Retrieval(encoder, source=source, batch_size=16, max_captions=1).run(ONE_HOT)
    )
    assert first["text_to_image_R@1"] == 1
    assert first["chance/image_to_text_R@1"] == pytest.approx(1 / 9)


def test_a_collapsed_model_retrieves_nothing(encoder):
    source = pictures([[i] for i in range(12)])
    collapsed = SimpleNamespace(variables={"scale": jnp.zeros(())})
    values = dict(Retrieval(encoder, source=source, batch_size=8).run(collapsed))
    assert values["text_to_image_R@10"] == values["image_to_text_R@10"] == 0
    assert values["text_to_image_median_rank"] == 12
    assert values["chance/text_to_image_median_rank"] == 6


def test_examples_show_the_best_and_the_worst(encoder):
    source = pictures([[i] for i in range(10)] + [[3]])
    retrieval = Retrieval(encoder, source=source, batch_size=8)
    assert retrieval.examples == {}
    list(retrieval.run(ONE_HOT))
    worst, best = retrieval.examples["worst"][0], retrieval.examples["best"][0]
    assert (worst["image"], worst["caption"]) == (10, "picture 3")
    assert worst["rank"] == 11 and worst["retrieved"][0] == (3, 1.0)
    assert best["rank"] == 1 and best["retrieved"][0] == (best["image"], 1.0)
    assert len({e["image"] for e in retrieval.examples["best"]}) == 4


def test_wrong_input(encoder):
    with pytest.raises(ClipinError, match="record 1, in memory, has no caption"):
        Retrieval(encoder, source=pictures([[0], []]))
    with pytest.raises(ClipinError, match="similarity is 'euclid'"):
        Retrieval(encoder, source=pictures([[0]]), similarity="euclid")
