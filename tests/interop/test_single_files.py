"""Weights without a description: models by the names and shapes of their arrays."""

import os

import numpy as np
import pytest

from clipin_jax.core.parameter_paths import flatten
from clipin_jax.errors import ClipinError
from clipin_jax.interop.foreign_model import check_settings
from clipin_jax.interop.open_model import open_model
from clipin_jax.interop.weights import write_safetensors
from tests.parity.golden_files import load
from tests.parity.names import BLIP, CLIPIN, albef_table
from tests.support.golden_models import (
    Started,
    assert_features,
    config_of,
    parameters,
    write_archive,
    write_state_dict,
)
from tests.support.torch_files import Call, Global, write_torch

PAGE = "clip:runlocal"
HEADS = ("model.image.num_heads=3", "model.text.num_heads=2")


@pytest.fixture(scope="module")
def vit(golden_folder):
    return load(golden_folder, "clip_vit_tiny.npz")


def test_archive_of_openai(vit, tmp_path):
    """TorchScript in float16, whose sizes are arrays; its activation is QuickGELU."""
    arrays = parameters(vit, "params/")
    half = {
        name: value.astype(np.float16) if value.ndim > 1 else value
        for name, value in arrays.items()
    }
    sizes = dict(input_resolution=32, context_length=12, vocab_size=64)
    numbers = {name: np.array(value) for name, value in sizes.items()}
    started = Started(write_archive(tmp_path / "a.pt", half | numbers), PAGE, *HEADS)
    assert len(started.lines) == 1
    model, flat = started.model, started.flat
    assert not model.assumed and model.settings["data.tokenizer.name"] == "bpe"
    token = flat["towers/text/token_embedding/embedding"]
    assert token.dtype == np.float32
    np.testing.assert_array_equal(token, half["token_embedding.weight"])
    with pytest.raises(ClipinError, match=r"activation is 'gelu', there 'quick_gelu'"):
        check_settings(config_of(model, PAGE, "model.text.activation=gelu"), model)


def test_features_of_an_archive(vit, tmp_path):
    numbers = {"input_resolution": np.array(32)}
    path = write_archive(tmp_path / "a.pt", parameters(vit, "params/") | numbers)
    assert_features(Started(path, PAGE, *HEADS), vit, "quickgelu/")


def test_sizes_of_a_published_archive(tmp_path):
    """Heads are 64 wide."""
    rng = np.random.default_rng(0)
    block = {
        "mlp.c_fc.weight": (4, 1),
        "attn.in_proj_weight": (3, 1),
    }
    arrays = {
        "visual.class_embedding": (128,), "visual.positional_embedding": (5, 128),
        "visual.conv1.weight": (128, 3, 16, 16), "visual.ln_pre.weight": (128,),
        "text_projection": (64, 48), "positional_embedding": (7, 64),
        "token_embedding.weight": (9, 64), "input_resolution": (), "logit_scale": (),
    }  # fmt: skip
    for prefix, width, depth in (("visual.", 128, 2), ("", 64, 11)):
        for layer in range(depth):
            for name, (rows, columns) in block.items():
                full = f"{prefix}transformer.resblocks.{layer}.{name}"
                arrays[full] = (rows * width, columns * width)
    values = {k: rng.normal(size=shape).astype("f4") for k, shape in arrays.items()}
    model = open_model(str(write_archive(tmp_path / "a.pt", values)))
    expected = {
        "model.embed_dim": 48, "model.image.width": 128, "model.image.depth": 2,
        "model.image.num_heads": 2, "model.image.mlp_ratio": 4.0,
        "model.image.image_size": (32, 32), "model.image.patch_size": (16, 16),
        "model.text.width": 64, "model.text.depth": 11, "model.text.num_heads": 1,
        "model.text.context_length": 7, "model.text.vocab_size": 9,
        "model.image.activation": "quick_gelu", "model.image.pre_norm": True,
        "model.image_mean": (0.48145466, 0.4578275, 0.40821073),
    }  # fmt: skip
    assert {key: model.settings[key] for key in expected} == expected


def test_state_dict_does_not_state_its_activation(vit, tmp_path):
    """What is assumed is reported, with the key that decides."""
    arrays = parameters(vit, "params/")
    path = write_state_dict(tmp_path / "a.pt", arrays, epoch=3)
    quick = "model.image.activation=quick_gelu", "model.text.activation=quick_gelu"
    started = Started(path, PAGE, *HEADS, *quick)
    assert_features(started, vit, "quickgelu/")
    assert (
        "does not state what the config decides: model.image.activation=quick_gelu "
        "(usual: gelu)"
    ) in started.lines[1]


def test_parts_are_reported_alone(vit, tmp_path):
    write_safetensors(tmp_path / "a.safetensors", parameters(vit, "params/"))
    started = Started(tmp_path, PAGE, *HEADS, parts=("image",))
    assert "model.image.activation=gelu, model.image_mean" in started.lines[1]
    assert "model.text" not in started.lines[1]


def test_logit_scale_is_a_logarithm(vit, tmp_path):
    write_safetensors(tmp_path / "a.safetensors", parameters(vit, "params/"))
    started = Started(tmp_path, PAGE, *HEADS)
    scale = started.flat["objectives_contrastive/logit_scale"]
    expected = np.exp(vit["params/logit_scale"])
    logits = vit["gelu/image_features"] @ vit["gelu/text_features"].T * np.exp(scale)
    np.testing.assert_allclose(np.exp(scale), expected, rtol=1e-6)
    assert np.abs(logits).max() > 1


def tree_of(table, arrays):
    return flatten(table.to_tree(arrays))


def assert_same(flat, expected):
    """Compares all arrays that a table makes of the golden ones."""
    assert flat.keys() == expected.keys(), flat.keys() ^ expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(flat[path], value, err_msg=path)


def test_albef(golden_folder, tmp_path):
    file = load(golden_folder, "albef_tiny.npz")
    arrays = parameters(file, "init/params/")
    ignored = parameters(file, "init/ema/", "init/buffers/")
    for alias, name in file.meta["aliases"].items():
        ignored[alias] = arrays[name]
    path = write_state_dict(tmp_path / "ALBEF.pth", arrays | ignored, epoch=29)
    words = "data.tokenizer.vocabulary=''", "model.text.context_length=16"
    started = Started(path, "albef:runlocal", *words, *HEADS)
    assert_same(started.flat, tree_of(albef_table(file.sizes), arrays))
    settings = started.model.settings
    assert settings["model.text.depth"] == settings["model.text.fusion_depth"] == 2
    for override, message in (
        ("model.image.norm_eps=1e-5", "set model.image.norm_eps=1e-06"),
        ("model.text.norm_eps=1e-6", "set model.text.norm_eps=1e-12"),
        ("model.text.token_types=0", "set model.text.token_types=2"),
        ("model.text.depth=1", "set model.text.depth=2"),
    ):
        with pytest.raises(ClipinError, match=message):
            check_settings(
                config_of(started.model, "albef:runlocal", override), started.model
            )


def test_blip(golden_folder, tmp_path):
    file = load(golden_folder, "blip_tiny.npz")
    arrays = parameters(file, "init/params/")
    ignored = parameters(file, "init/ema/", "init/buffers/")
    for alias, name in file.meta["aliases"].items():
        ignored[alias] = arrays[name]
    path = write_state_dict(tmp_path / "BLIP.pth", arrays | ignored, epoch=19)
    words = "data.tokenizer.vocabulary=''", "model.text.context_length=12"
    started = Started(path, "blip:runlocal", *words, *HEADS)
    expected = tree_of(BLIP, arrays)
    table = "towers/text/embeddings/position_embedding/embedding"
    expected[table] = expected[table][:12]
    assert f"{table}: 16 positions fitted to 12" in started.lines[0]
    assert_same(started.flat, expected)


def test_released_clipin(golden_folder, tmp_path):
    """Towers, heads and statistics; its momentum copies are no part of the start."""
    file = load(golden_folder, "clipin_tiny.npz")
    arrays = parameters(file, "init/params/", "init/buffers/", "init/ema/")
    path = write_state_dict(tmp_path / "epoch_50.pt", arrays, epoch=50)
    learned = (
        "objectives.contrastive.weight=learned",
        "objectives.clipin.intra_weight=learned",
    )
    started = Started(path, "clip:clipin,runlocal", *HEADS, *learned)
    assert_same(started.flat, tree_of(CLIPIN, arrays))
    with pytest.raises(ClipinError, match="no place for: lambda_"):
        Started(path, "clip:clipin,runlocal", *HEADS)
    model = open_model(str(path))
    for override, message in (
        ("model.pre_projector=32", "set model.pre_projector=64"),
        ("model.image.activation=gelu", "set model.image.activation=quick_gelu"),
        ("objectives.clipin.projection_dim=64", "projection_dim=128"),
    ):
        config = config_of(model, "clip:clipin,runlocal", override)
        with pytest.raises(ClipinError, match=message):
            check_settings(config, model)


def test_code_in_a_file_is_not_run(tmp_path):
    call = Call(Global("os", "mkdir"), (str(tmp_path / "made"),))
    path = write_torch(tmp_path / "a.pt", {"visual.class_embedding": call})
    with pytest.raises(ClipinError, match=r"wants to call os.mkdir: refused"):
        open_model(str(path))
    assert os.listdir(tmp_path) == ["a.pt"]


def test_other_files(vit, tmp_path):
    write_safetensors(tmp_path / "a.safetensors", {"head.weight": np.ones((2, 2))})
    with pytest.raises(ClipinError, match="has arrays head.weight: of files without a"):
        open_model(str(tmp_path / "a.safetensors"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ClipinError, match="is no model of clipin_jax, open_clip, "):
        open_model(str(tmp_path / "empty"))
    arrays = parameters(vit, "params/")
    arrays["visual.conv1.weight"] = np.ones(3, "f4")
    del arrays["ln_final.weight"]
    write_safetensors(tmp_path / "b.safetensors", arrays)
    with pytest.raises(ClipinError, match="b.safetensors"):
        Started(tmp_path / "b.safetensors", PAGE, *HEADS)
