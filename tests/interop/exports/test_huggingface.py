"""Folders for transformers: its own classes give our features, and start our runs."""

import json

import numpy as np
import pytest
from PIL import Image

from clipin_jax.data.image.views import evaluation_view
from clipin_jax.errors import ClipinError
from clipin_jax.interop.exports.formats import write_export
from clipin_jax.interop.tables.huggingface_siglip import siglip_table
from clipin_jax.interop.weights import open_weights
from tests.support.trained_models import (
    SMALL,
    TEXTS,
    assert_same_arrays,
    start_from_export,
    trained,
    trained_model_of,
)

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIGLIP = (*SMALL, "model.embed_dim=32")  # as wide as the tower
RUNS = [
    ("clip:runlocal", SMALL),
    ("clip:clipin,runlocal", SMALL),
    ("clip:runlocal", (*SMALL, "model.scan_layers=True", "model.text.activation=relu")),
    ("siglip:runlocal", SIGLIP),
]


@pytest.fixture(scope="module", params=RUNS, ids=[spec for spec, _ in RUNS])
def exported(request, tmp_path_factory):
    spec, overrides = request.param
    run = trained(spec, *overrides)
    folder = tmp_path_factory.mktemp("exports") / "model"
    write_export(run.model, "huggingface", folder)
    return run, folder


def test_the_other_library_gives_our_features(exported):
    run, folder = exported
    model = transformers.AutoModel.from_pretrained(folder).eval()
    config = run.model.config.model
    pixels = (run.images / 255 - config.image_mean) / config.image_std
    pixels = torch.tensor(pixels.transpose(0, 3, 1, 2), dtype=torch.float32)
    tokens = torch.tensor(run.tokens, dtype=torch.long)
    with torch.no_grad():
        out = model(pixel_values=pixels, input_ids=tokens)
    assert np.abs(out.image_embeds.numpy() - run.image_features).max() < 1e-5
    assert np.abs(out.text_embeds.numpy() - run.text_features).max() < 1e-5


def test_its_tokenizer_gives_our_text_features(exported):
    run, folder = exported
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(
        list(TEXTS), padding="max_length", truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        output = model.get_text_features(**inputs)
    features = getattr(output, "pooler_output", output).numpy()
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    assert np.abs(features - run.text_features).max() < 1e-5


def test_its_image_processor_makes_our_images(exported):
    run, folder = exported
    content = json.loads((folder / "preprocessor_config.json").read_text())
    name = f"{content['image_processor_type']}Pil"  # the other one needs torchvision
    processor = getattr(transformers, name).from_pretrained(folder)
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    pixels = processor(Image.fromarray(image), return_tensors="np")["pixel_values"][0]
    config = run.model.config
    view = evaluation_view(
        image, config.data.image_size, config.data.augment.interpolation
    )
    ours = (view / 255 - config.model.image_mean) / config.model.image_std
    assert np.abs(pixels.transpose(1, 2, 0) - ours).max() < 1e-5


@pytest.mark.parametrize(
    ("spec", "overrides"),
    [
        ("clip:runlocal", SMALL),
        ("clip:runlocal", (*SMALL, "model.scan_layers=True")),
        ("siglip:runlocal", SIGLIP),
    ],
)
def test_a_run_starts_with_the_same_bits(tmp_path, spec, overrides):
    model = trained_model_of(spec, *overrides)
    write_export(model, "huggingface", tmp_path / "out")
    assert_same_arrays(start_from_export(tmp_path / "out", spec, *overrides), model)


def test_arrays_of_siglip_are_ours_bit_for_bit(tmp_path):
    model = trained_model_of("siglip:runlocal", *SIGLIP)
    write_export(model, "huggingface", tmp_path / "out")
    weights = open_weights(tmp_path / "out")
    flat = siglip_table().to_flat({n: weights.read(n) for n in weights.names()})
    assert flat.keys() == model.arrays.keys()
    for path, value in model.arrays.items():
        np.testing.assert_array_equal(flat[path], value, err_msg=path)


@pytest.mark.parametrize(
    ("spec", "overrides", "message"),
    [
        ("clip:runlocal", ["model.image.pool=mean"], "no model.image.pool 'mean'"),
        ("clip:runlocal", ["model.text.causal=False"], "no model.text.causal False"),
        ("clip:runlocal", ["model.image.pre_norm=False"], "no model.image.pre_norm"),
        ("clip:runlocal", ["model.image.patch_size=(8,16)"], "patch_size is 8x16"),
        ("clip:runlocal", ["data.tokenizer.pad_with_end=True"], "first end mark"),
        ("clip:runlocal", ["data.caption_words=4"], "add --no-tokenizer"),
        ("clip:tower=RN50,runlocal", [], "no model.image.name 'resnet'"),
        ("siglip:clipin,runlocal", [], "no layer after the image tower"),
        # More outputs than the tower has: the norm cannot take the bias over.
        ("clip:clipin,runlocal", [*SMALL, "model.embed_dim=48"], "has a bias"),
        ("albef:runlocal", [], "needs? an objective of type contrastive or sigmoid"),
    ],
)
def test_what_the_classes_cannot_hold_is_refused(tmp_path, spec, overrides, message):
    model = trained_model_of(spec, *overrides)
    with pytest.raises(ClipinError, match=message):
        write_export(model, "huggingface", tmp_path / "out")
    assert not any(tmp_path.iterdir())
