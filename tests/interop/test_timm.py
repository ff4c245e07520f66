"""timm's ViT, whose names are those of ALBEF's image tower."""

import json

import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.interop.foreign_model import check_settings
from clipin_jax.interop.open_model import open_model
from clipin_jax.interop.weights import write_safetensors
from tests.parity.golden_files import load, select_prefix
from tests.parity.names import albef_table, to_tree
from tests.support.golden_models import Started, config_of, parameters, write_state_dict

PAGE = "clip:runlocal"
PRETRAINED = dict(
    mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5], interpolation="bicubic", crop_pct=0.9
)


@pytest.fixture(scope="module")
def golden(golden_folder):
    """timm's arrays, and ours as the parity tests read them."""
    file = load(golden_folder, "albef_tiny.npz")
    params = parameters(file, "init/params/")
    tree = to_tree(albef_table(file.sizes), params)
    return select_prefix(params, "visual_encoder."), tree["towers"]["image"]


def write_folder(folder, arrays, **content):
    usual = dict(
        architecture="vit_tiny_patch8_32", num_features=48, global_pool="token",
        pretrained_cfg=PRETRAINED,
    )  # fmt: skip
    (folder / "config.json").write_text(json.dumps(usual | content))
    head = {"head.weight": np.ones((5, 48), "f4"), "head.bias": np.ones(5, "f4")}
    write_safetensors(folder / "model.safetensors", arrays | head)
    return folder


def test_arrays(golden, tmp_path):
    arrays, tree = golden
    folder = write_folder(tmp_path, arrays)
    started = Started(folder, PAGE, "model.image.num_heads=3", parts=("image",))
    for name in ("class_embedding", "position_embedding"):
        np.testing.assert_array_equal(started.flat[f"towers/image/{name}"], tree[name])
    block = tree["transformer"]["blocks_1"]
    for name in ("attention/qkv/kernel", "mlp_in/kernel", "ln_2/scale"):
        expected = block
        for part in name.split("/"):
            expected = expected[part]
        path = f"towers/image/transformer/blocks_1/{name}"
        np.testing.assert_array_equal(started.flat[path], expected)
    assert "evaluated on the central 0.9" in started.lines[-1]
    assert "model.image.activation" not in started.lines[1]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.image.activation=quick_gelu", "set model.image.activation=gelu"),
        ("model.image.norm_eps=1e-5", "set model.image.norm_eps=1e-06"),
        ("model.image.patch_bias=False", "set model.image.patch_bias=True"),
        ("model.image.pre_norm=True", "set model.image.pre_norm=False"),
        ("model.image.pool=mean", "set model.image.pool=cls"),
        ("model.image_std=(0.2,0.2,0.2)", "set model.image_std='.0.5,0.5,0.5.'"),
    ],
)
def test_another_config_is_refused(golden, tmp_path, override, message):
    model = open_model(str(write_folder(tmp_path, golden[0])))
    with pytest.raises(ClipinError, match=message):
        check_settings(config_of(model, PAGE, override), model, ("image",))


def test_weights_alone(golden, tmp_path):
    model = open_model(str(write_state_dict(tmp_path / "vit.pth", golden[0])))
    assert model.assumed["model.image.activation"] == "gelu"
    assert model.settings["model.image.image_size"] == (32, 32)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (dict(global_pool="avg"), "global_pool 'avg': our towers know only token, map"),
        (dict(pretrained_cfg=[1]), "config.json is damaged"),
    ],
)
def test_what_our_tower_does_not_have(golden, tmp_path, content, message):
    write_folder(tmp_path, golden[0], **content)
    with pytest.raises(ClipinError, match=message):
        open_model(str(tmp_path))


def test_other_architectures(golden, tmp_path):
    folder = write_folder(
        tmp_path, {"conv1.weight": np.ones(3)}, architecture="resnet50"
    )
    with pytest.raises(ClipinError, match="architecture 'resnet50': of timm we read"):
        open_model(str(folder))
    scaled = golden[0] | {"blocks.0.ls1.gamma": np.ones(48, "f4")}
    write_folder(tmp_path, scaled, architecture="vit_base_patch14_dinov2")
    with pytest.raises(ClipinError, match=r"no place for: blocks.0.ls1.gamma"):
        Started(tmp_path, PAGE, "model.image.num_heads=3", parts=("image",))
