"""Weights of transformers' `CLIPModel`: the same features, and no silent mismatch."""

import json

import jax
import numpy as np
import pytest

from clipin_jax.config import load_config
from clipin_jax.errors import ClipinError
from clipin_jax.interop.foreign_model import check_settings
from clipin_jax.interop.open_model import open_model
from clipin_jax.runs.build import build_experiment
from clipin_jax.training.initial_state import initial_state

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOWER = dict(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
)
OURS = (
    "batch_size=8", "model.embed_dim=24", "model.image.width=32",
    "model.image.depth=2", "model.image.num_heads=2", "model.image.mlp_ratio=2",
    "model.image.image_size=(32,32)", "model.image.patch_size=(8,8)",
    "model.text.width=32", "model.text.depth=2", "model.text.num_heads=2",
    "model.text.mlp_ratio=2", "model.text.context_length=16",
    "model.text.vocab_size=60", "data.context_length=16",
)  # fmt: skip


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    """A random `CLIPModel`, saved, and its features of random inputs."""
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        vision_config=dict(TOWER, image_size=32, patch_size=8),
        text_config=dict(
            TOWER, vocab_size=60, max_position_embeddings=16, eos_token_id=59
        ),
        projection_dim=24,
    )
    model = transformers.CLIPModel(config).eval()
    folder = tmp_path_factory.mktemp("twin")
    model.save_pretrained(folder)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    text = rng.integers(1, 58, (3, 16)).astype(np.int32)
    for row, end in enumerate((15, 7, 4)):
        text[row, end], text[row, end + 1 :] = 59, 0
    return folder, images, text, features_of(model, images, text)


def features_of(model, images, text):
    """Returns their features of pixels normalised as ours are, of unit norm."""
    base = load_config("clip:runlocal").model
    pixels = (images / 255 - base.image_mean) / base.image_std
    pixels = torch.tensor(pixels.transpose(0, 3, 1, 2), dtype=torch.float32)
    with torch.no_grad():
        out = model(pixel_values=pixels, input_ids=torch.tensor(text, dtype=torch.long))
    return out.image_embeds.numpy(), out.text_embeds.numpy()


def started(folder, *overrides, config="clip:runlocal"):
    experiment = build_experiment(
        load_config(config, (*OURS, f"init_from={folder}", *overrides))
    )
    lines = []
    with jax.set_mesh(experiment.mesh):
        return experiment, initial_state(experiment, lines.append), lines


def encode(experiment, state, images, text):
    view = {"image": images, "text": text}
    features = experiment.learner.apply(state.variables, view, method="encode")
    return [np.asarray(features[kind]["embedding"]) for kind in ("image", "text")]


@pytest.mark.parametrize("scan_layers", [False, True])
def test_features_are_those_of_the_other_library(twin, scan_layers):
    folder, images, text, expected = twin
    experiment, state, lines = started(folder, f"model.scan_layers={scan_layers}")
    got = encode(experiment, state, images, text)
    for ours, theirs in zip(got, expected, strict=True):
        assert np.abs(ours - theirs).max() < 1e-5
    assert len(lines) == 1 and "start from scratch" not in lines[0]


def test_fine_tuning_starts_with_the_features_of_the_other_library(twin):
    folder, images, text, expected = twin
    config, factors = "clip:finetune,clipin,runlocal", "model.lora.text.rank=2"
    experiment, state, lines = started(folder, factors, config=config)
    got = encode(experiment, state, images, text)
    for ours, theirs in zip(got, expected, strict=True):
        assert np.abs(ours - theirs).max() < 1e-5
    assert "start from scratch" in lines[0]
    assert "_projection" not in lines[0].partition("scratch")[2]


def test_clipin_is_plugged_into_a_pretrained_host(twin):
    config = "clip:clipin,runlocal"
    _, state, lines = started(twin[0], config=config)
    assert "start from scratch: objectives_clipin/" in lines[0]
    target, online = (
        tree["towers"]["image"]["ln_post"]["scale"]
        for tree in (state.target_params, state.params)
    )
    np.testing.assert_array_equal(target, online)


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
        ("model.text.causal=False", "set model.text.causal=True"),
        ("model.image.width=64", "set model.image.width=32"),
        ("model.text.vocab_size=64", "set model.text.vocab_size=60"),
    ],
)
def test_another_model_is_refused(twin, override, message):
    config = load_config("clip:runlocal", (*OURS, override))
    with pytest.raises(ClipinError, match=message):
        check_settings(config, open_model(str(twin[0])))


def test_an_unknown_part_is_refused(twin):
    with pytest.raises(ClipinError, match="'audio' matches no parameter"):
        started(twin[0], "init_parts=('audio',)")


def test_unknown_files_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ClipinError, match="has model_type 'gpt2'"):
        open_model(str(tmp_path))
