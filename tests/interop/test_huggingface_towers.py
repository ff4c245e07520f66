"""Weights of transformers' single towers: `ViTModel`, `BertModel`."""

import json
import re
import shutil

import numpy as np
import pytest

from clipin_jax.config import load_config
from clipin_jax.errors import ClipinError
from clipin_jax.interop.foreign_model import check_settings
from clipin_jax.interop.open_model import open_model
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

VIT = (
    *IMAGE, "model.image.activation=gelu", "model.image.norm_eps=1e-12",
    "model.image.patch_bias=True", "model.image.pre_norm=False",
    "init_parts=('image',)",
)  # fmt: skip
BERT = (*TEXT, "model.text.token_types=2", "init_parts=('text',)")
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmno"]
PIECES += [f"##{letter}" for letter in "abcdefghijklmnopqrst"]
PIECES += [f"word{number}" for number in range(60 - len(PIECES))]


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    config = transformers.ViTConfig(**TOWER, image_size=32, patch_size=8)
    model = randomize(transformers.ViTModel(config))
    folder = tmp_path_factory.mktemp("vit")
    model.save_pretrained(folder)
    return folder, model


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    config = transformers.BertConfig(**TOWER, vocab_size=60, max_position_embeddings=16)
    model = randomize(transformers.BertModel(config))
    folder = tmp_path_factory.mktemp("bert")
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(PIECES))
    return folder, model


def bert_config(folder, *overrides):
    """The start of a run whose text tower is a BERT with the folder's vocabulary."""
    text = ("vocabulary" not in " ".join(overrides)) * (
        f"data.tokenizer.vocabulary={folder}/vocab.txt",
    )
    return (*BERT, *text, *overrides)


def test_image_features_are_those_of_vit(vit):
    folder, model = vit
    images = random_images()
    with torch.no_grad():
        expected = model(pixel_values=torch.tensor(pixels(images))).last_hidden_state
    mean = "model.image_mean=(0.5,0.5,0.5)", "model.image_std=(0.5,0.5,0.5)"
    experiment, state, lines = start("clip:runlocal", folder, *VIT, *mean)
    text = np.ones((3, 32), np.int32)
    got = encode(experiment, state, images, text)["image"]
    assert np.abs(got["tokens"] - expected.numpy()).max() < 1e-5
    np.testing.assert_array_equal(got["pooled"], got["tokens"][:, 0])
    assert "towers/text/" in lines[-1]


def test_a_classifier_on_top_is_left_out(vit, tmp_path):
    classifier = transformers.ViTForImageClassification(vit[1].config)
    classifier.save_pretrained(tmp_path)
    model, _, lines = start("clip:runlocal", tmp_path, *VIT)
    assert "the ViTModel in" in lines[-1] and model.config.init_parts == ("image",)


def text_features(folder, model, *overrides):
    """Returns our features and their last layer, of random texts with padding."""
    text = random_text((15, 7, 4), start=2, end=3, pad=0)
    with torch.no_grad():
        expected = model(
            input_ids=torch.tensor(text, dtype=torch.long),
            attention_mask=torch.tensor(text != 0),
        ).last_hidden_state.numpy()
    overrides = bert_config(folder, *overrides)
    experiment, state, _ = start("clip_zh:runlocal", folder, *overrides)
    images = np.zeros((3, 32, 32, 3), np.uint8)
    return encode(experiment, state, images, text)["text"], expected, text != 0


def test_text_features_are_those_of_bert(bert):
    got, expected, is_text = text_features(*bert)
    difference = np.abs(got["tokens"] - expected)[is_text]
    assert difference.max() < 1e-5
    np.testing.assert_array_equal(got["pooled"], got["tokens"][:, 0])


def test_old_names_and_a_head_on_top(bert, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    folder = shutil.copytree(bert[0], tmp_path / "bert")
    arrays = safetensors.load_file(folder / "model.safetensors")
    arrays = {
        f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): array
        for name, array in arrays.items()
    }
    arrays["cls.predictions.bias"] = torch.zeros(60)
    arrays["bert.embeddings.position_ids"] = torch.arange(16)[None]
    safetensors.save_file(arrays, folder / "model.safetensors")
    got, expected, is_text = text_features(folder, bert[1])
    assert np.abs(got["tokens"] - expected)[is_text].max() < 1e-5


def check(folder, *overrides):
    overrides = bert_config(folder, *overrides)
    config = load_config("clip_zh:runlocal", overrides)
    check_settings(config, open_model(str(folder)), config.init_parts)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.text.activation=gelu_tanh", "'gelu_tanh', there 'gelu'"),
        ("model.text.norm_eps=1e-6", "set model.text.norm_eps=1e-12"),
        ("model.text.token_types=0", "set model.text.token_types=2"),
        ("model.text.pad_id=1", "set model.text.pad_id=0"),
        ("model.text.width=64", "model.text.width is 64, there 32"),
        ("model.text.context_length=20", "is 20, there 16"),
        ("data.tokenizer.vocabulary=", "data.tokenizer.vocabulary is '', there '/"),
    ],
)
def test_another_model_is_refused(bert, override, message):
    with pytest.raises(ClipinError, match=re.escape(message)):
        check(bert[0], override)


def test_another_vocabulary_is_refused(bert, tmp_path):
    same, other = tmp_path / "same.txt", tmp_path / "other.txt"
    same.write_text("\n".join(PIECES))
    other.write_text("\n".join([*PIECES[:-1], "another"]))
    check(bert[0], f"data.tokenizer.vocabulary={same}")
    with pytest.raises(ClipinError, match=f"is '{other}', there '{bert[0]}/vocab.txt'"):
        check(bert[0], f"data.tokenizer.vocabulary={other}")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer_config.json", dict(do_lower_case=False), "set .*lowercase=False"),
        ("1_Pooling/config.json", dict(pooling_mode_mean_tokens=True), "pool=mean"),
        (
            "1_Pooling/config.json",
            dict(pooling_mode="mean"),
            "set model.text.pool=mean",
        ),
        (
            "1_Pooling/config.json",
            dict(pooling_mode_mean_tokens=True, pooling_mode_max_tokens=True),
            "another pooling than the first token or the mean",
        ),
        ("config.json", dict(position_embedding_type="relative_key"), "'relative_key'"),
        ("config.json", dict(is_decoder=True), "is_decoder True: we read only models"),
        ("config.json", dict(hidden_act="silu"), "hidden_act 'silu': our towers know"),
    ],
)
def test_files_that_state_something_else_are_refused(
    bert, tmp_path, file, content, message
):
    folder = shutil.copytree(bert[0], tmp_path / "bert")
    path = folder / file
    path.parent.mkdir(exist_ok=True)
    old = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(old | content))
    with pytest.raises(ClipinError, match=message):
        check(folder)


def test_a_single_tower_is_no_whole_model(bert):
    with pytest.raises(ClipinError, match="no weights for objectives_contrastive"):
        overrides = bert_config(bert[0], "init_parts=('all',)")
        start("clip_zh:runlocal", bert[0], *overrides)
