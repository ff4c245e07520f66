"""Weights of transformers' `BlipForImageTextRetrieval`."""

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

OURS = (
    "objectives.matching.group=8", "model.embed_dim=24",
    *IMAGE, "model.image.norm_eps=1e-5", *TEXT,
    # These files have neither decoder nor temperature.
    "init_keep=('decoder_attention','^towers/text/head','temperature')",
)  # fmt: skip
ENCODE = 59  # the last id marks text that is read with an image


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    config = transformers.BlipConfig(
        vision_config=dict(TOWER, image_size=32, patch_size=8),
        text_config=dict(
            TOWER, vocab_size=60, max_position_embeddings=16, encoder_hidden_size=32
        ),
        image_text_hidden_size=24,
    )
    model = randomize(transformers.BlipForImageTextRetrieval(config))
    folder = tmp_path_factory.mktemp("blip")
    model.save_pretrained(folder)
    return folder, model


def test_features_and_match_scores_are_those_of_the_other_library(twin):
    folder, model = twin
    images, text = random_images(), random_text((15, 7, 4), start=2, end=3, pad=0)
    marked = text.copy()
    marked[:, 0] = ENCODE  # our tower does so itself, as BLIP's own code
    inputs = dict(
        pixel_values=torch.tensor(pixels(images)), attention_mask=torch.tensor(text > 0)
    )
    with torch.no_grad():
        ids = torch.tensor(marked, dtype=torch.long)
        match = model(input_ids=ids, **inputs).itm_score.numpy()[:, 1]
        ids = torch.tensor(text, dtype=torch.long)
        cosine = model(input_ids=ids, **inputs, use_itm_head=False).itm_score.numpy()
    mean = "model.image_mean=(0.5,0.5,0.5)", "model.image_std=(0.5,0.5,0.5)"
    experiment, state, _ = start("blip:runlocal", folder, *OURS, *mean)
    got = encode(experiment, state, images, text)
    ours = got["image"]["embedding"] @ got["text"]["embedding"].T
    assert np.abs(ours - cosine).max() < 1e-5
    scores = experiment.learner.apply(
        state.variables, text, got["image"]["tokens"], method="match"
    )
    assert np.abs(np.asarray(scores) - match).max() < 1e-5


def test_what_is_missing_is_listed(twin):
    with pytest.raises(ClipinError, match="no weights for .*momentum_contrastive/temp"):
        start("blip:runlocal", twin[0], *OURS, "init_keep=()")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.image.norm_eps=1e-6", "set model.image.norm_eps=1e-05"),
        ("model.image.pre_norm=True", "set model.image.pre_norm=False"),
        ("model.text.activation=gelu_tanh", "'gelu_tanh', there 'gelu'"),
        ("model.text.token_types=2", "set model.text.token_types=0"),
        ("model.embed_dim=32", "set model.embed_dim=24"),
        ("data.tokenizer.name=bpe", "set data.tokenizer.name=wordpiece"),
    ],
)
def test_another_model_is_refused(twin, override, message):
    config = load_config("blip:runlocal", (*OURS, override))
    with pytest.raises(ClipinError, match=re.escape(message)):
        check_settings(config, open_model(str(twin[0])))


def test_other_classes_of_the_family_are_refused(twin, tmp_path):
    folder = shutil.copytree(twin[0], tmp_path / "twin")
    content = json.loads((folder / "config.json").read_text())
    content["architectures"] = ["BlipModel"]
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(ClipinError, match="is of BlipModel: we read BlipForImageText"):
        open_model(str(folder))
