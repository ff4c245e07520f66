"""Weights of transformers' `CLIPModel`: the same features, and no silent mismatch."""

import json
import re
import shutil

import jax
import numpy as np
import pytest

from clipin_jax.config import load_config
from clipin_jax.core import sharding
from clipin_jax.data.text import make_tokenizer
from clipin_jax.errors import ClipinError
from clipin_jax.interop.descriptions.tokenizers import check_tokenizer
from clipin_jax.interop.foreign_model import check_settings
from clipin_jax.interop.open_model import open_model
from clipin_jax.runs.train_program import jit_train_step
from tests.support.foreign_models import (
    IMAGE,
    TEXT,
    TOWER,
    encode,
    pixels,
    random_images,
    random_text,
    randomize,
    start,
)

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

OURS = ("model.embed_dim=24", *IMAGE, *TEXT)
CLIP = load_config("clip:runlocal").model


def make_twin(folder, **text):
    """Saves a random `CLIPModel` and returns it."""
    config = transformers.CLIPConfig(
        vision_config=dict(TOWER, image_size=32, patch_size=8),
        text_config=TOWER
        | dict(vocab_size=60, max_position_embeddings=16, eos_token_id=59)
        | text,
        projection_dim=24,
    )
    model = randomize(transformers.CLIPModel(config))
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    """A random `CLIPModel`, saved, and its features of random inputs."""
    folder = tmp_path_factory.mktemp("twin")
    model = make_twin(folder)
    images, text = random_images(), random_text((15, 7, 4), start=58, end=59, pad=0)
    return folder, images, text, features_of(model, images, text)


def outputs_of(model, images, text, **options):
    pictures = torch.tensor(pixels(images, CLIP.image_mean, CLIP.image_std))
    ids = torch.tensor(text, dtype=torch.long)
    with torch.no_grad():
        return model(pixel_values=pictures, input_ids=ids, **options)


def features_of(model, images, text):
    """Returns their features of pixels normalised as ours are, of unit norm."""
    out = outputs_of(model, images, text)
    return out.image_embeds.numpy(), out.text_embeds.numpy()


def started(folder, *overrides, config="clip:runlocal"):
    return start(config, folder, *OURS, *overrides)


def check(folder, *overrides):
    """Compares what the files of a folder state with our config."""
    config = load_config("clip:runlocal", (*OURS, *overrides))
    check_settings(config, open_model(str(folder)))


def assert_equal_features(experiment, state, images, text, expected):
    got = encode(experiment, state, images, text)
    for modality, theirs in zip(("image", "text"), expected, strict=True):
        assert np.abs(got[modality]["embedding"] - theirs).max() < 1e-5


@pytest.mark.parametrize("scan_layers", [False, True])
def test_features_are_those_of_the_other_library(twin, scan_layers):
    folder, images, text, expected = twin
    experiment, state, lines = started(folder, f"model.scan_layers={scan_layers}")
    assert_equal_features(experiment, state, images, text, expected)
    assert len(lines) == 1 and "start from scratch" not in lines[0]


def test_fine_tuning_starts_with_the_features_of_the_other_library(twin):
    folder, images, text, expected = twin
    config, factors = "clip:finetune,clipin,runlocal", "model.lora.text.rank=2"
    experiment, state, lines = started(folder, factors, config=config)
    assert_equal_features(experiment, state, images, text, expected)
    assert "start from scratch" in lines[0]
    assert "_projection" not in lines[0].partition("scratch")[2]


def test_old_files(tmp_path):
    """Buffers of position ids; the end token is the largest id (`eos_token_id` 2)."""
    safetensors = pytest.importorskip("safetensors.torch")
    model = make_twin(tmp_path, eos_token_id=2)
    arrays = {k: v.contiguous() for k, v in model.state_dict().items()}
    for tower in ("vision_model", "text_model"):
        arrays[f"{tower}.embeddings.position_ids"] = torch.arange(16)[None]
    safetensors.save_file(arrays, tmp_path / "model.safetensors")
    images, text = random_images(), random_text((15, 7, 4), start=58, end=59, pad=0)
    expected = features_of(model, images, text)
    experiment, state, _ = started(tmp_path)
    assert_equal_features(experiment, state, images, text, expected)


def test_the_first_loss_is_that_of_the_other_library(twin):
    folder, *_ = twin
    experiment, state, _ = started(folder)
    images, ends = random_images(8), (15, 7, 4, 9, 12, 3, 5, 6)
    text = random_text(ends, start=58, end=59, pad=0)
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    expected = float(outputs_of(model, images, text, return_loss=True).loss)
    batch = sharding.put({"view1": {"image": images, "text": text}}, experiment.mesh)
    with jax.set_mesh(experiment.mesh):
        _, metrics = jit_train_step(experiment)(state, batch, experiment.hyper(0))
    assert abs(float(metrics["loss"]) - expected) < 1e-5


def test_clipin_is_plugged_into_a_pretrained_host(twin):
    config = "clip:clipin,runlocal"
    _, state, lines = started(twin[0], config=config)
    assert "start from scratch: objectives_clipin/" in lines[0]
    target, online = (
        tree["towers"]["image"]["ln_post"]["scale"]
        for tree in (state.target_params, state.params)
    )
    np.testing.assert_array_equal(target, online)


def test_unknown_parts_are_refused(twin):
    with pytest.raises(ClipinError, match="'audio' matches no parameter"):
        started(twin[0], "init_parts=('audio',)")


def test_parts(twin):
    experiment, state, _ = started(twin[0], "init_parts=('text',)")
    scratch = experiment.init_state()
    is_equal = jax.tree.map(
        lambda a, b: bool((a == b).all()), state.params, scratch.params
    )["towers"]
    assert all(jax.tree.leaves(is_equal["image"]))
    assert not is_equal["text"]["token_embedding"]["embedding"]
    assert is_equal["text_projection"]["kernel"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.image.activation=gelu", "model.image.activation is 'gelu', there"),
        ("model.text.norm_eps=1e-6", "set model.text.norm_eps=1e-05"),
        ("model.image.pool=mean", "set model.image.pool=cls"),
        ("model.image.pre_norm=False", "set model.image.pre_norm=True"),
        ("model.text.causal=False", "set model.text.causal=True"),
        ("model.image.width=64", "set model.image.width=32"),
        ("model.image.patch_size=(16,16)", "set model.image.patch_size='(8,8)'"),
        ("model.text.vocab_size=64", "set model.text.vocab_size=60"),
        ("model.text.context_length=20", "is 20, there 16: set model.text.context_len"),
        ("data.tokenizer.pad_with_end=True", "set data.tokenizer.pad_with_end=False"),
    ],
)
def test_another_model_is_refused(twin, override, message):
    with pytest.raises(ClipinError, match=re.escape(message)):
        check(twin[0], override)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (dict(image_mean=[0.5] * 3), "image_mean is .*, there \\(0.5, 0.5, 0.5\\)"),
        (dict(image_std=[0.5] * 3), "set model.image_std='\\(0.5,0.5,0.5\\)'"),
        (dict(do_normalize=False), "set model.image_mean='\\(0.0,0.0,0.0\\)' model.im"),
        (dict(resample=2), "interpolation is 'bicubic', there 'bilinear'"),
        (dict(resample=5), "has resample 5, which we do not have"),
        (dict(size={"height": 32, "width": 32}), "set data.resize=squash"),
        (
            dict(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}),
            "scales the shortest side to 36 and crops 32",
        ),
        (dict(do_rescale=False), "does not scale pixels"),
    ],
)
def test_another_preparation_of_images_is_refused(twin, tmp_path, stated, message):
    folder = shutil.copytree(twin[0], tmp_path / "twin")
    (folder / "preprocessor_config.json").write_text(json.dumps(stated))
    with pytest.raises(ClipinError, match=message):
        check(folder)


def test_a_newer_folder_has_the_preparation_in_its_processor(twin, tmp_path):
    folder = shutil.copytree(twin[0], tmp_path / "twin")
    content = {"image_processor": dict(resample=2)}
    (folder / "processor_config.json").write_text(json.dumps(content))
    with pytest.raises(ClipinError, match="there 'bilinear'"):
        check(folder)


def test_the_usual_preparation_is_taken(twin, tmp_path):
    folder = shutil.copytree(twin[0], tmp_path / "twin")
    processor = transformers.CLIPImageProcessorPil(size=32, crop_size=32)
    processor.save_pretrained(folder)
    check(folder)
    assert open_model(str(folder)).settings["data.resize"] == "shortest"


def test_other_images_and_shorter_texts_have_fitted_positions(twin):
    overrides = ("model.image.image_size=(48,48)", "model.text.context_length=9")
    _, state, lines = started(twin[0], *overrides, "data.context_length=9")
    towers = state.params["towers"]
    assert towers["image"]["position_embedding"].shape == (1 + 36, 32)
    assert towers["text"]["position_embedding"].shape == (9, 32)
    assert lines[:2] == [
        "towers/image/position_embedding: 17 positions fitted to 37",
        "towers/text/position_embedding: 16 positions fitted to 9",
    ]


def test_arrays_without_place_and_places_without_arrays_are_listed(twin, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    folder = shutil.copytree(twin[0], tmp_path / "twin")
    arrays = safetensors.load_file(folder / "model.safetensors")
    arrays["extra.weight"] = arrays.pop("logit_scale")
    safetensors.save_file(arrays, folder / "model.safetensors")
    with pytest.raises(ClipinError, match="no weights for .*logit_scale"):
        started(folder)
    with pytest.raises(ClipinError, match=r"no place for: extra\.weight"):
        started(folder, "init_keep=('logit_scale',)")
    _, _, lines = started(folder, "init_keep=('logit_scale','^extra')")
    assert "1 start from scratch: objectives_contrastive/logit_scale" in lines[0]


def test_truncated_weights_are_refused(twin, tmp_path):
    folder = shutil.copytree(twin[0], tmp_path / "twin")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ClipinError, match=r"model\.safetensors is damaged"):
        started(folder)


@pytest.fixture(scope="module")
def with_tokenizer(tmp_path_factory):
    """A twin with CLIP's vocabulary, and its tokenizer.json."""
    folder = tmp_path_factory.mktemp("tokenizer")
    model = make_twin(folder, vocab_size=49408, eos_token_id=49407)
    ours = make_tokenizer("bpe")._vocabulary  # pyright: ignore
    merges = sorted(ours.ranks, key=ours.ranks.get)
    tokenizer = transformers.CLIPTokenizer(vocab=ours.ids, merges=merges)
    tokenizer.save_pretrained(folder)
    return folder, model, tokenizer


VOCABULARY = "model.text.vocab_size=49408"
CAPTIONS = ["a photo of a dog", "It's 3 o'clock, at the café!"]


@pytest.mark.slow
def test_captions_have_the_same_features_by_the_tokenizer_of_each(with_tokenizer):
    """They pad with the end token, which is 49407; we pad with 0."""
    folder, model, tokenizer = with_tokenizer
    experiment, state, _ = started(folder, VOCABULARY)
    theirs = tokenizer(CAPTIONS, padding="max_length", max_length=16)["input_ids"]
    ours = make_tokenizer("bpe", 16)(CAPTIONS)
    assert theirs[0][-1] == 49407 and ours[0][-1] == 0
    images = random_images(2)
    expected = features_of(model, images, np.array(theirs))
    assert_equal_features(experiment, state, images, ours, expected)


def test_another_tokenizer_is_refused(with_tokenizer):
    with pytest.raises(ClipinError, match="data.tokenizer.name is 'wordpiece', there"):
        check(with_tokenizer[0], VOCABULARY, "data.tokenizer.name=wordpiece")


def test_a_tokenizer_of_another_vocabulary_is_refused(with_tokenizer, tmp_path):
    folder = shutil.copytree(with_tokenizer[0], tmp_path / "twin")
    content = json.loads((folder / "tokenizer.json").read_text())
    ids = content["model"]["vocab"]
    ids["photo</w>"], ids["cat</w>"] = ids["cat</w>"], ids["photo</w>"]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ClipinError, match="gives 'a photo of a cat' the ids"):
        started(folder, VOCABULARY)
    path, config = folder / "tokenizer.json", load_config("clip:runlocal")
    path.write_text("{}")
    with pytest.raises(ClipinError, match="tokenizer.json is no tokenizer"):
        check_tokenizer(config, path)


def test_unknown_files_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ClipinError, match="has model_type 'gpt2'"):
        open_model(str(tmp_path))
