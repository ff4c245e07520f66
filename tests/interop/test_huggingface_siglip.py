"""Weights of transformers' `SiglipModel` and `Siglip2Model`."""

import json
import re
import shutil

import numpy as np
import pytest

from clipin_jax.config import load_config
from clipin_jax.errors import ClipinError
from clipin_jax.interop.foreign_model import check_settings, config_changes
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

OURS = ("model.embed_dim=32", *IMAGE, *TEXT)
WORDS = dict(TOWER, vocab_size=60, max_position_embeddings=16)


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    config = transformers.SiglipConfig(
        vision_config=dict(TOWER, image_size=32, patch_size=8), text_config=WORDS
    )
    model = randomize(transformers.SiglipModel(config))
    folder = tmp_path_factory.mktemp("siglip")
    model.save_pretrained(folder)
    return folder, model


@pytest.fixture(scope="module")
def any_size(tmp_path_factory):
    """A `Siglip2Model` for 4 x 4 patches."""
    config = transformers.Siglip2Config(
        vision_config=dict(TOWER, num_patches=16, patch_size=8), text_config=WORDS
    )
    model = randomize(transformers.Siglip2Model(config), seed=1)
    folder = tmp_path_factory.mktemp("siglip2")
    model.save_pretrained(folder)
    return folder, model


def patches_of(images):
    """Returns flat patches as the processor of `Siglip2Model` cuts them."""
    count, side, *_ = images.shape
    x = pixels(images).transpose(0, 2, 3, 1)
    x = x.reshape(count, side // 8, 8, side // 8, 8, 3).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(count, -1, 8 * 8 * 3)


def check_features(folder, model, inputs, *overrides):
    """Compares features and logits of random inputs with theirs."""
    images = random_images()
    text = random_text((15, 7, 4), start=7, end=1, pad=1)
    ids = torch.tensor(text, dtype=torch.long)
    with torch.no_grad():
        out = model(input_ids=ids, **inputs(images))
    experiment, state, lines = start("siglip:runlocal", folder, *OURS, *overrides)
    assert "start from scratch" not in lines[-1]
    got = encode(experiment, state, images, text)
    image, words = (got[m]["embedding"] for m in ("image", "text"))
    assert np.abs(image - out.image_embeds.numpy()).max() < 1e-5
    assert np.abs(words - out.text_embeds.numpy()).max() < 1e-5
    learned = state.params["objectives_sigmoid"]
    scale, bias = (float(learned[k]) for k in ("logit_scale", "logit_bias"))
    logits = np.exp(scale) * words @ image.T + bias
    np.testing.assert_allclose(logits, out.logits_per_text.numpy(), atol=1e-4)


def test_features_are_those_of_siglip(twin):
    check_features(*twin, lambda images: {"pixel_values": torch.tensor(pixels(images))})


def test_features_are_those_of_siglip_2(any_size):
    def inputs(images):
        count = len(images)
        return dict(
            pixel_values=torch.tensor(patches_of(images)),
            pixel_attention_mask=torch.ones((count, 16), dtype=torch.long),
            spatial_shapes=torch.tensor([[4, 4]] * count),
        )

    check_features(*any_size, inputs, "data.resize=squash")


def check(folder, *overrides):
    config = load_config("siglip:runlocal", (*OURS, *overrides))
    check_settings(config, open_model(str(folder)))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.image.activation=gelu", "'gelu', there 'gelu_tanh'"),
        ("model.text.norm_eps=1e-5", "set model.text.norm_eps=1e-06"),
        ("model.image.pool=cls", "set model.image.pool=map"),
        ("model.text.pool=end", "set model.text.pool=last"),
        ("model.text.causal=True", "set model.text.causal=False"),
        ("model.text.vocab_size=64", "set model.text.vocab_size=60"),
        ("model.embed_dim=24", "set model.embed_dim=32"),
    ],
)
def test_another_model_is_refused(twin, override, message):
    with pytest.raises(ClipinError, match=re.escape(message)):
        check(twin[0], override)


def test_its_images_are_squashed(twin, tmp_path):
    folder = shutil.copytree(twin[0], tmp_path / "twin")
    processor = transformers.SiglipImageProcessorPil(size=dict(height=32, width=32))
    processor.save_pretrained(folder)
    with pytest.raises(ClipinError, match="data.resize is 'shortest', there 'squash'"):
        check(folder)
    check(folder, "data.resize=squash")
    with pytest.raises(ClipinError, match=r"image_mean is \(0.4, 0.5, 0.5\), there"):
        check(folder, "data.resize=squash", "model.image_mean=(0.4,0.5,0.5)")


def test_another_sentencepiece_model_is_refused(twin, tmp_path):
    folder = shutil.copytree(twin[0], tmp_path / "twin")
    (folder / "spiece.model").write_bytes(b"pieces")
    (tmp_path / "same.model").write_bytes(b"pieces")
    (tmp_path / "other.model").write_bytes(b"others")
    name = "data.tokenizer.name=sentencepiece"
    with pytest.raises(ClipinError, match=f"other.model', there '{folder}/spiece"):
        check(folder, name, f"data.tokenizer.model={tmp_path}/other.model")
    config = load_config("siglip:runlocal", (*OURS, name))
    with config.unlocked():
        config.data.tokenizer = dict(
            name="sentencepiece", model=f"{tmp_path}/same.model"
        )
    check_settings(config, open_model(str(folder)))


def test_its_config_names_the_files_of_its_tokenizer(twin, tmp_path):
    folder = shutil.copytree(twin[0], tmp_path / "twin")
    (folder / "spiece.model").write_bytes(b"pieces")
    model = open_model(str(folder))
    config = load_config("siglip:runlocal", changes=config_changes(model))
    assert config.data.tokenizer.model == f"{folder}/spiece.model"
    check_settings(config, model)


def change_config(folder, destination, **vision):
    folder = shutil.copytree(folder, destination)
    path = folder / "config.json"
    content = json.loads(path.read_text())
    content["vision_config"] |= vision
    path.write_text(json.dumps(content))
    return folder


def test_what_our_towers_do_not_have_is_refused(twin, any_size, tmp_path):
    folder = change_config(twin[0], tmp_path / "headless", vision_use_head=False)
    with pytest.raises(ClipinError, match="vision_use_head False: we read only"):
        open_model(str(folder))
    folder = change_config(any_size[0], tmp_path / "oblong", num_patches=12)
    with pytest.raises(ClipinError, match="num_patches 12, which is no square grid"):
        open_model(str(folder))
