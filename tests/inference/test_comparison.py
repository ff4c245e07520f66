"""Both ways to compare images with texts, through the evaluators' encoder."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from clipin_jax.core.learner import build
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.retrieval import Retrieval
from clipin_jax.inference import encoder as encode
from clipin_jax.inference.encode_fns import make_encode_fns
from clipin_jax.runs.build import build_experiment
from tests.parity.clipin_run import ClipinRun
from tests.parity.compare import deviation
from tests.parity.golden_files import load
from tests.support.in_memory import Images, function_encoder
from tests.support.tiny import tiny_batch, tiny_config

FORWARD = 1e-6  # features are handed out in float32
SHALLOW = ("model.image.depth=1", "model.text.depth=1")


def encoder_on(learner, tokenizer, devices):
    """The encoder of a learner, on so many devices."""
    functions = make_encode_fns(learner)._asdict()
    return function_encoder(
        devices=devices, image_size=(32, 32), tokenizer=tokenizer, **functions
    )


@pytest.fixture(scope="module")
def trained():
    """A learner whose two branches differ, its state, and a view it never saw."""
    run = build_experiment(tiny_config(*SHALLOW), jax.devices()[:1])
    state, batch = run.init_state(), tiny_batch(run.config)
    assert batch["view1"]["image"].shape[1:3] == (32, 32)
    target = jax.tree.map(lambda x: x * 1.5 + 0.01, state.target_params)
    # On the host, from where it goes to any number of devices.
    state = jax.device_get(dataclasses.replace(state, target_params=target))
    return run.learner, state, batch["view1"]


@pytest.fixture(scope="module")
def expected(trained):
    """The target's projections of the images, the online predictions of the texts."""
    learner, state, view = trained

    @jax.jit
    def both(state, view):
        targets = learner.apply(
            state.target_variables, {"view1": view}, train=False, method="targets"
        )
        predictions = learner.apply(state.variables, view, method="predictions")
        predicted = predictions["clipin"]["text_to_image"]
        return targets["view1"]["clipin"]["image"], predicted

    return both(state, view)


def numbered(ids):
    """A tokenizer of texts that are the number of a row; all others are row 0."""

    def tokenizer(texts):
        return np.stack([ids[int(t) if t.isdigit() else 0] for t in texts])

    return tokenizer


def pairs_of(view):
    """The view as a source, its texts, and their tokenizer."""
    captions = [str(i) for i in range(len(view["text"]))]
    source = Images(
        {"image": image, "captions": (caption,)}
        for image, caption in zip(view["image"], captions, strict=True)
    )
    return source, captions, numbered(view["text"])


@pytest.mark.parametrize("devices, batch_size", [(1, 16), (1, 5), (8, 16), (8, 3)])
def test_prediction_compares_target_images_with_online_predictions(
    trained, expected, devices, batch_size
):
    learner, state, view = trained
    source, captions, tokenizer = pairs_of(view)
    compared = encoder_on(learner, tokenizer, devices).comparison("prediction")
    image = compared.images(state, source, batch_size)
    text = compared.texts(state, captions, batch_size)
    np.testing.assert_allclose(image, expected[0], atol=FORWARD)
    np.testing.assert_allclose(text, expected[1], atol=FORWARD)
    assert image.dtype == text.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(image, axis=1), 1, rtol=1e-6)


def test_contrastive_similarity_compares_the_embeddings(trained):
    learner, state, view = trained
    source, captions, tokenizer = pairs_of(view)
    encoder = encoder_on(learner, tokenizer, 8)
    compared = encoder.comparison("contrastive")
    images = encoder.images(state, source, 8)
    texts = encoder.texts(state, captions, 8)
    np.testing.assert_array_equal(
        compared.images(state, source, 8), images["embedding"]
    )
    np.testing.assert_array_equal(
        compared.texts(state, captions, 8), texts["embedding"]
    )


@pytest.fixture(scope="module")
def released(golden_folder):
    return ClipinRun(load(golden_folder, "clipin_tiny.npz"))


@pytest.mark.parametrize("devices", [1, 8])
def test_both_paths_equal_the_released_code(released, monkeypatch, devices):
    expected = released.file.section_or_skip("eval/")
    images = expected["inputs/images"].transpose(0, 2, 3, 1)
    ids = expected["inputs/tokens"]
    index = np.arange(-(-len(images) // devices) * devices)
    mask, index = index < len(images), index % len(images)
    batch = {"image": images[index], "index": index, "mask": mask}
    # The golden pixels are no bytes: they enter behind the decoder.
    monkeypatch.setattr(encode, "eval_batches", lambda *_, **__: [batch])
    with jax.enable_x64(True):
        params, variables, target_variables = released.after_last_step()
        state = SimpleNamespace(variables=variables, target_variables=target_variables)
        scale = np.exp(params["objectives_contrastive"]["logit_scale"])
        golden = {
            "contrastive": (expected["similarity_contrast/per_image"], scale),
            "prediction": (expected["similarity_noncontrast/per_image"], 1.0),
        }
        encoder = encoder_on(released.learner, numbered(ids), devices)
        for similarity, (similarities, factor) in golden.items():
            compared = encoder.comparison(similarity)
            image = compared.images(state, images, 4)
            text = compared.texts(state, [str(i) for i in range(len(ids))], 4)
            assert deviation(factor * image @ text.T, similarities) < FORWARD, (
                similarity
            )


def test_retrieval_by_prediction(trained):
    learner, state, view = trained
    source, captions, tokenizer = pairs_of(view)
    values = []
    for devices, batch_size in ((1, 16), (8, 3)):
        retrieval = Retrieval(
            encoder_on(learner, tokenizer, devices),
            source=source,
            batch_size=batch_size,
            similarity="prediction",
        )
        values.append(dict(retrieval.run(state)))
    assert values[0] == pytest.approx(values[1], abs=1e-6)


@pytest.mark.parametrize(
    "overrides, clipin",
    [((), False), (("objectives.clipin.terms=('intra',)",), True)],
    ids=["no plug-in", "no inter term"],
)
def test_a_model_that_cannot_predict_is_refused_at_once(trained, overrides, clipin):
    source, _, tokenizer = pairs_of(trained[2])
    encoder = encoder_on(build(tiny_config(*overrides, clipin=clipin)), tokenizer, 1)
    with pytest.raises(ClipinError, match="needs a model that predicts images from"):
        Retrieval(encoder, source=source, similarity="prediction")


def test_an_unknown_similarity_is_refused_with_the_nearest(trained):
    learner, _, view = trained
    _, _, tokenizer = pairs_of(view)
    with pytest.raises(ClipinError, match="similarity is 'predict'.*'prediction'"):
        encoder_on(learner, tokenizer, 1).comparison("predict")
