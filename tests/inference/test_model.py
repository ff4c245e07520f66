import io
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import clipin_jax
from clipin_jax.config import load_config
from clipin_jax.data import make_source
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.zero_shot import ZeroShot
from clipin_jax.inference.build import open_run
from clipin_jax.inference.image_files import find_image_files
from clipin_jax.inference.model import Model
from tests.support import tiny_runs
from tests.support.pixel_model import encode_pixels, pixel_model

TEXTS = ["a red star", "a blue ring", "a green cross"]
PIXELS = np.zeros((8, 8, 3), np.uint8)
BLIP = (
    "batch_size=16", "model.image.depth=1", "model.image.width=32",
    "model.text.depth=1", "model.text.width=32", "evals={}",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with tiny_runs.on_one_device():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run, and files of all kinds of images: gray, transparent, turned, upright."""
    folder = tmp_path_factory.mktemp("model")
    tiny_runs.write_run(tiny_runs.tiny_run(), folder / "run")
    rng = np.random.default_rng(0)

    def image(*shape: int) -> Image.Image:
        return Image.fromarray(rng.integers(0, 256, shape).astype(np.uint8))

    image(40, 50, 3).save(folder / "plain.jpg")
    image(40, 50).save(folder / "gray.png")
    image(50, 40, 4).save(folder / "transparent.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    for name in ("turned.jpg", "turned.png"):
        image(33, 70, 3).save(folder / name, exif=exif)
    return folder


@pytest.fixture(scope="module")
def model(folder) -> Model:
    return clipin_jax.load(folder / "run")


def files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.jpg"), *folder.glob("*.png")])


def test_images_of_any_kind_have_the_embeddings_of_evaluation(folder, model):
    paths = files(folder)
    run = open_run(folder / "run")
    state, _ = run.restore()
    expected = run.encoder.images(state, find_image_files(paths), 8)["embedding"]
    plain = np.asarray(Image.open(folder / "plain.jpg"))
    where = paths.index(folder / "plain.jpg")
    given: dict[str, tuple[Any, Any]] = {
        "paths": (paths, expected),
        "strings": (list(map(str, paths)), expected),
        "bytes": ([path.read_bytes() for path in paths], expected),
        "images of Pillow": ([Image.open(path) for path in paths], expected),
        "mixed": ([paths[0], Image.open(paths[1]), plain], expected[[0, 1, where]]),
        "one path": (paths[0], expected[:1]),
        "one image of Pillow": (Image.open(paths[1]), expected[1:2]),
        "one array": (plain, expected[[where]]),
        "a batch": (np.stack([plain, plain]), expected[[where, where]]),
    }
    for kind, (images, rows) in given.items():
        embeddings = model.encode_image(images)
        assert embeddings.dtype == np.float32 and isinstance(embeddings, np.ndarray)
        np.testing.assert_allclose(embeddings, rows, atol=1e-6, err_msg=kind)
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-5)


def test_texts_and_similarity(folder, model):
    run = open_run(folder / "run")
    state, _ = run.restore()
    expected = run.encoder.texts(state, TEXTS, 8)["embedding"]
    np.testing.assert_allclose(model.encode_text(TEXTS), expected, atol=1e-6)
    np.testing.assert_allclose(model.encode_text(TEXTS[1]), expected[1:2], atol=1e-6)
    paths = files(folder)
    cosine = model.similarity(paths, TEXTS)
    products = model.encode_image(paths) @ expected.T
    np.testing.assert_allclose(cosine, products, atol=1e-6)
    logits = model.similarity(paths, TEXTS, "logits")
    np.testing.assert_allclose(logits, cosine / 0.07, rtol=1e-4)
    probabilities = model.similarity(paths, TEXTS, "probabilities")
    np.testing.assert_allclose(probabilities, jax.nn.softmax(logits, axis=1), rtol=1e-5)


def test_zero_shot_has_the_predictions_of_the_evaluator(folder, model):
    source = make_source(name="scenes", split="val", length=16, size=32, labels="shape")
    images = [source[index]["image"] for index in range(len(source))]
    templates = ("a {}", "there is a {c}")
    run = open_run(folder / "run")
    evaluator = ZeroShot(run.encoder, source=source, templates=templates)
    state, _ = run.restore()
    scores = dict(evaluator.run(state))
    probabilities = model.zero_shot(images, source.classes, templates)
    labels = [source.annotations(index)["label"] for index in range(len(source))]
    assert probabilities.shape == (16, len(source.classes))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    accuracy = (probabilities.argmax(axis=1) == labels).mean()
    assert accuracy == pytest.approx(scores["accuracy"])
    bare = model.zero_shot(images[:2], source.classes)
    named = model.zero_shot(images[:2], source.classes, ["{}"])
    np.testing.assert_array_equal(bare, named)
    with pytest.raises(ClipinError, match="has no {}"):
        model.zero_shot(images, source.classes, ["a picture"])


def test_an_explanation_is_that_of_the_command(folder, model):
    path = folder / "plain.jpg"
    [expected] = clipin_jax.explain_image(folder / "run", path, TEXTS[0])
    heat = model.explain(path, TEXTS[0])
    np.testing.assert_allclose(heat, expected.caption, rtol=1e-4)
    with pytest.raises(ClipinError, match="2 images and 1 texts"):
        model.explain([path, path], TEXTS[0])


@pytest.mark.slow
def test_a_model_that_matches_and_writes(folder, tmp_path):
    tiny_runs.write_run(load_config("blip:runlocal", BLIP), tmp_path / "blip")
    model = clipin_jax.load(tmp_path / "blip", batch_size=4)
    paths = files(folder)[:3]
    scores = model.match(paths, TEXTS[:2])
    assert scores.shape == (3, 2) and scores.dtype == np.float32
    alone = [[model.match(path, text)[0, 0] for text in TEXTS[:2]] for path in paths]
    np.testing.assert_allclose(scores, alone, atol=1e-5)
    captions = model.caption(paths)
    assert captions == clipin_jax.caption_images(tmp_path / "blip", paths)
    probabilities = model.similarity(paths, TEXTS, "probabilities")
    expected = jax.nn.softmax(model.similarity(paths, TEXTS) / 0.07, axis=1)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4)


def test_pairs_are_matched_one_by_one_with_images_in_a_batch_of_their_own():
    traced: list[int] = []

    def image_tokens(variables: Any, image: Any) -> dict[str, Any]:
        traced.append(len(image))
        return {"tokens": image[:, :1, 0, 0].astype("float32")[..., None]}

    def match(variables: Any, tokens: Any, text: Any) -> dict[str, Any]:
        return {"score": 100 * tokens[:, 0, 0] + text[:, 0]}

    model = pixel_model(64, image_tokens=image_tokens, match=match)
    images = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((2, 2, 3), "B")
    scores = model.match(images, [f"a {number}" for number in range(9)])
    expected = 100 * np.arange(3)[:, None] + np.arange(9)
    np.testing.assert_array_equal(scores, expected)
    assert traced == [4] and scores.dtype == np.float32


def test_captions_are_decoded_as_the_config_has_it_and_compiled_once():
    compiled, made = [], []

    def captioner(tokenizer: Any, decoding: Any) -> Any:
        made.append(decoding)

        def generate(variables: Any, image: Any, index: Any) -> dict[str, Any]:
            compiled.append(len(image))
            ids = image[:, 0, 0, :2].astype("int32")
            return {"text": jnp.pad(ids, ((0, 0), (1, 1)))}

        return generate

    tokenizer = SimpleNamespace(
        end=9, encode=lambda text: [], decode=lambda ids: " ".join(map(str, ids))
    )
    model = pixel_model(captioner=captioner, tokenizer=tokenizer)
    options = {"strategy": "beam", "max_length": 1}
    model.config.evals.captioning = {"decoding": options}
    pixels = np.full((3, 2, 2, 3), [5, 6, 7], np.uint8)
    for _ in range(2):
        assert model.caption(pixels) == ["5 6"] * 3
    assert model.caption(pixels[:1], "greedy") == ["5 6"]
    assert [decoding.strategy for decoding in made] == ["beam", "greedy"]
    assert compiled == [4, 1] and made[0].max_length == 1


def test_a_model_without_a_part_says_so(model):
    image = PIXELS
    with pytest.raises(ClipinError, match="does not learn to match"):
        model.match(image, "a star")
    with pytest.raises(ClipinError, match="does not learn to write captions"):
        model.caption(image)
    with pytest.raises(ClipinError, match="method 'matching' needs"):
        model.explain(image, "a star", "matching")
    with pytest.raises(ClipinError, match="score is 'cosin'.*'cosine'"):
        model.similarity(image, "a star", "cosin")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "there is no image"),
        (np.zeros((0, 8, 8, 3), np.uint8), "there is no image"),
        (3, "images are of type int"),
        ([PIXELS, None], "image 1 is of type NoneType, None: give a path"),
        (PIXELS / 255, r"image 0 is an array of float64 \[8, 8, 3\]: give uint8"),
        ([PIXELS, PIXELS[..., :2]], r"image 1 is an array of uint8 \[8, 8, 2\]"),
        ([PIXELS, PIXELS[:0]], "image 1 has no pixels"),
        (["nothing.png"], "image 0, nothing.png, does not exist"),
        ([PIXELS, b""], "image 1 cannot be decoded: the file is empty"),
        ([PIXELS, b"no image"], "image 1 cannot be decoded: UnidentifiedImage"),
    ],
)
def test_wrong_images(model, images, message):
    with pytest.raises(ClipinError, match=message) as caught:
        model.encode_image(images)
    assert "\n" not in str(caught.value)


def test_truncated_images(folder, model, tmp_path):
    content = (folder / "plain.jpg").read_bytes()[:-400]
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(content)
    message = "cannot be decoded: OSError: image file is truncated"
    with pytest.raises(ClipinError, match=f"image 1, {re.escape(str(cut))}, {message}"):
        model.encode_image([PIXELS, cut])
    for image in (content, Image.open(io.BytesIO(content))):
        with pytest.raises(ClipinError, match=f"image 1 {message}"):
            model.encode_image([PIXELS, image])
    deep = Image.fromarray(np.zeros((8, 8), np.uint16))
    with pytest.raises(ClipinError, match="image 0 cannot be .* more than 8 bits"):
        model.encode_image(deep)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "there is no text"),
        (3, "texts are of type int"),
        (b"a star", "texts are of type bytes"),
        (["a star", None], "text 1 is of type NoneType, None: give a string"),
    ],
)
def test_wrong_texts(model, texts, message):
    with pytest.raises(ClipinError, match=message):
        model.encode_text(texts)


@pytest.mark.parametrize(
    ("devices", "batch_size", "sizes"),
    [(1, 6, [1, 2, 4, 6]), (8, 32, [8, 16, 32]), (8, 20, [8, 16, 24])],
)
def test_each_size_class_is_compiled_once(devices, batch_size, sizes):
    traced: list[int] = []  # the rows of each program that is compiled

    def image(variables: Any, pixels: Any) -> dict[str, Any]:
        traced.append(len(pixels))
        return encode_pixels(variables, pixels)

    model = pixel_model(batch_size, devices, image)
    pixels = np.random.default_rng(0).integers(0, 256, (70, 2, 2, 3), np.uint8)
    for count in (1, 2, 3, 5, 6, 7, 9, 13, 16, 17, 25, 33, 70):
        rows = model.encode_image(pixels[:count])
        expected = pixels[:count].reshape(-1, 12) + 1e-3
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(rows, expected, rtol=1e-5)
    assert sorted(traced) == sizes


def test_checkpoints_by_name_and_by_step(folder, tmp_path):
    run = tmp_path / "run@3"
    shutil.copytree(folder / "run", run)
    assert clipin_jax.load(run).name == f"{run}@{tiny_runs.LAST}"
    assert clipin_jax.load(f"{run}@6").name == f"{run}@6"
    with pytest.raises(ClipinError, match="no checkpoint of step 5"):
        clipin_jax.load(run, step=5)
    with pytest.raises(ClipinError, match="names step 6, but step is 4"):
        clipin_jax.load(f"{run}@6", step=4)
    with pytest.raises(ClipinError, match="is no run folder"):
        clipin_jax.load(tmp_path)
    with pytest.raises(ClipinError, match="batch_size is 0"):
        clipin_jax.load(run, batch_size=0)


def test_the_data_of_the_run_are_not_read(tmp_path):
    source = {"name": "image_folder", "folder": str(tmp_path / "gone")}
    config = tiny_runs.tiny_run(f"data.source={source}", "evals={}")
    tiny_runs.write_run(config, tmp_path / "run")
    assert clipin_jax.load(tmp_path / "run").encode_text("a star").shape == (1, 32)


def test_a_model_is_described(folder, model):
    text = repr(model)
    assert text.startswith(f"<Model {folder / 'run'}@6: vit for images of 32 x 32")
    assert "text_transformer for 16 tokens" in text and "learned by clipin" in text
    assert "\n" not in text and len(text) < 400
    assert model.width == 32


def test_the_fingerprint_depends_on_weights_and_preprocessing(folder, model, tmp_path):
    assert clipin_jax.load(folder / "run").fingerprint == model.fingerprint
    config = load_config(str(folder / "run"))
    opened = model._opened
    with config.unlocked():
        config.data.augment.interpolation = "nearest"
    other = opened._replace(config=config)
    params = jax.tree.map(lambda x: x + 1, opened.state.variables)
    moved = opened._replace(state=SimpleNamespace(variables=params))
    fingerprints = {Model(x).fingerprint for x in (opened, other, moved)}
    assert len(fingerprints) == 3
