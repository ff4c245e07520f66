"""Folders of open_clip: the features of golden files, and no silent mismatch."""

import json

import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.interop.foreign_model import check_settings
from clipin_jax.interop.open_model import open_model
from clipin_jax.interop.weights import write_safetensors
from tests.parity.golden_files import load
from tests.support.golden_models import (
    Started,
    assert_features,
    config_of,
    parameters,
    renamed,
    write_state_dict,
)

NO_CHANGE = dict(mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2), interpolation="bicubic")
PAGE = "clip:runlocal"


def tower(c, kind, **others):
    sizes = dict(width=c[f"{kind}_width"], layers=c[f"{kind}_layers"])
    return sizes | others


def description(file, **model):
    """Returns the open_clip_config.json of a golden file's ViT."""
    c = file.sizes
    vision = tower(
        c, "v", head_width=c["v_width"] // c["v_heads"], image_size=c["image"],
        patch_size=c["patch"],
    )  # fmt: skip
    text = tower(
        c, "t", heads=c["t_heads"], context_length=c["context"], vocab_size=c["vocab"]
    )
    config = dict(embed_dim=c["embed_dim"], vision_cfg=vision, text_cfg=text) | model
    return {"model_cfg": config, "preprocess_cfg": NO_CHANGE}


def write_folder(folder, arrays, content, *, safe=True):
    folder.mkdir(exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    if safe:
        write_safetensors(folder / "open_clip_model.safetensors", arrays)
    else:
        write_state_dict(folder / "open_clip_pytorch_model.bin", arrays)
    return folder


@pytest.fixture(scope="module")
def vit(golden_folder):
    return load(golden_folder, "clip_vit_tiny.npz")


@pytest.fixture(scope="module")
def folder(vit, tmp_path_factory):
    """The golden ViT with GELU, open_clip's default."""
    path = tmp_path_factory.mktemp("open_clip")
    return write_folder(path, parameters(vit, "params/"), description(vit))


@pytest.mark.parametrize("scan_layers", [False, True])
def test_vit_with_gelu(vit, folder, scan_layers):
    started = Started(folder, PAGE, f"model.scan_layers={scan_layers}")
    assert_features(started, vit, "gelu/")
    assert len(started.lines) == 1 and "start from scratch" not in started.lines[0]


def test_custom_text_with_quick_gelu(vit, tmp_path):
    """Its text tower has a prefix; the file is one of PyTorch."""
    own = r"^(?!visual|logit_scale)", "text."
    arrays = renamed(parameters(vit, "params/"), own)
    content = description(vit, quick_gelu=True, custom_text=True)
    folder = write_folder(tmp_path, arrays, content, safe=False)
    assert_features(Started(folder, PAGE), vit, "quickgelu/")


def test_resnet(golden_folder, tmp_path):
    file = load(golden_folder, "clip_rn_tiny.npz")
    c = file.sizes
    vision = dict(
        layers=c["layers"], width=c["width"], image_size=c["image"], patch_size=None,
        head_width=c["head_width"],
    )  # fmt: skip
    text = tower(
        c, "t", heads=c["t_heads"], context_length=c["context"], vocab_size=c["vocab"]
    )
    towers = dict(vision_cfg=vision, text_cfg=text)
    content = {"model_cfg": dict(embed_dim=c["embed_dim"], quick_gelu=True, **towers)}
    folder = write_folder(tmp_path, parameters(file, "params/", "buffers/"), content)
    page = "clip:tower=RN50,runlocal"
    started = Started(folder, page)
    assert_features(started, file, "eval/")
    larger = Started(folder, page, "model.image.image_size=(96,96)")
    assert "5 positions fitted to 10" in larger.lines[0]
    assert larger.flat["towers/image/pool/position_embedding"].shape == (10, 128)


@pytest.mark.parametrize("corrected", [False, True])
def test_coca(golden_folder, tmp_path, corrected):
    file = load(golden_folder, "coca_tiny.npz")
    c = file.sizes
    content = description(file)
    config = content["model_cfg"]
    config["vision_cfg"] |= dict(attentional_pool=True, attn_pooler_heads=2)
    config["text_cfg"] |= dict(embed_cls=True, correct_cls_mask=corrected)
    config["multimodal_cfg"] = tower(c, "t", heads=c["m_heads"])
    folder = write_folder(tmp_path, parameters(file, "params/"), content)
    mask = "correct_mask" if corrected else "legacy_mask"
    assert_features(Started(folder, "coca:runlocal"), file, f"{mask}/out/")
    config["multimodal_cfg"]["heads"] = 4
    write_folder(tmp_path, parameters(file, "params/"), content)
    with pytest.raises(ClipinError, match="2 heads in text_cfg and 4 in multimodal"):
        open_model(str(tmp_path))


def timm_names(arrays):
    """Returns Hugging Face's SigLIP with the names of open_clip and timm."""
    ours = {}
    for name, value in arrays.items():
        name = name.replace("vision_model.", "visual.trunk.")
        name = name.replace("text_model.", "text.")
        if ".self_attn." in name and "out_proj" not in name:
            if ".q_proj." not in name:
                continue
            parts = [arrays_at(arrays, name, x) for x in "qkv"]
            ours[name.replace("self_attn.q_proj", "attn.in_proj")] = np.concatenate(
                parts
            )
        else:
            ours[name.replace("self_attn.", "attn.")] = value
    return renamed_towers(ours)


def arrays_at(arrays, name, part):
    theirs = name.replace("visual.trunk.", "vision_model.")
    theirs = theirs.replace("text.", "text_model.", 1)
    return arrays[theirs.replace("q_proj", f"{part}_proj")]


def renamed_towers(arrays):
    out = {}
    for name, value in arrays.items():
        if name.startswith("visual.trunk.head.attention.in_proj"):
            leaf = name.rpartition("_")[2]
            query, *rest = np.split(value, 3)
            out[f"visual.trunk.attn_pool.q.{leaf}"] = query
            out[f"visual.trunk.attn_pool.kv.{leaf}"] = np.concatenate(rest)
            continue
        pairs = IMAGE_NAMES if name.startswith("visual") else TEXT_NAMES
        for old, new in pairs:
            name = name.replace(old, new)
        if name.endswith("pos_embed"):
            value = value[None]
        out[name] = value if name not in ("logit_scale", "logit_bias") else value[0]
    return out


IMAGE_NAMES = (
    ("embeddings.patch_embedding", "patch_embed.proj"),
    ("embeddings.position_embedding.weight", "pos_embed"),
    ("encoder.layers", "blocks"), ("layer_norm", "norm"), ("attn.in_proj", "attn.qkv"),
    ("attn.out_proj", "attn.proj"), ("post_layernorm", "norm"),
    ("head.probe", "attn_pool.latent"), ("head.attention.out_proj", "attn_pool.proj"),
    ("head.layernorm", "attn_pool.norm"), ("head.mlp", "attn_pool.mlp"),
)  # fmt: skip
TEXT_NAMES = (
    ("embeddings.token_embedding", "token_embedding"),
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("encoder.layers", "transformer.resblocks"), ("layer_norm", "ln_"),
    ("in_proj.weight", "in_proj_weight"), ("in_proj.bias", "in_proj_bias"),
    ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"),
    ("final_layer_norm", "ln_final"), ("text.head", "text.text_projection"),
    ("final_ln_", "ln_final"),
)  # fmt: skip


@pytest.fixture(scope="module")
def siglip(golden_folder):
    return load(golden_folder, "siglip_hf_tiny.npz")


def siglip_description(c):
    text = tower(
        c, "t", heads=c["t_heads"], context_length=c["context"], vocab_size=c["vocab"],
        no_causal_mask=True, proj_bias=True, pool_type="last",
        hf_tokenizer_name="timm/x", norm_kwargs=dict(eps=1e-6),
        act_kwargs=dict(approximate="tanh"),
    )  # fmt: skip
    vision = dict(image_size=c["image"], timm_model_name="vit_x", timm_pool="map")
    config = dict(embed_dim=c["projection"], vision_cfg=vision, text_cfg=text)
    return {"model_cfg": config, "preprocess_cfg": dict(resize_mode="squash")}


def test_siglip_with_the_image_tower_of_timm(siglip, tmp_path):
    arrays = timm_names(parameters(siglip, "params/"))
    folder = write_folder(tmp_path, arrays, siglip_description(siglip.sizes))
    started = Started(folder, "siglip:runlocal", "model.image.num_heads=3")
    assert started.model.settings["data.resize"] == "squash"
    assert_features(started, siglip, "out/")
    assert "model.image.activation=gelu_tanh" in started.lines[1]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.image.activation=quick_gelu", "is 'quick_gelu', there 'gelu': set"),
        ("model.text.activation=gelu_tanh", "set model.text.activation=gelu"),
        ("model.text.norm_eps=1e-6", "set model.text.norm_eps=1e-05"),
        ("model.image.pool=mean", "set model.image.pool=cls"),
        ("model.text.context_length=16", "set model.text.context_length=12"),
        ("model.text.vocab_size=65", "set model.text.vocab_size=64"),
        ("model.image_mean=(0.5,0.5,0.5)", "set model.image_mean='.0.5,0.4,0.3.'"),
        ("model.image_std=(0.5,0.5,0.5)", "set model.image_std='.0.2,0.2,0.2.'"),
        ("data.augment.interpolation=bilinear", "set data.augment.interpolation=bicu"),
        ("model.image.num_heads=6", "set model.image.num_heads=3"),
        ("model.image.pre_norm=False", "set model.image.pre_norm=True"),
        ("model.embed_dim=32", "set model.embed_dim=24"),
    ],
)
def test_another_config_is_refused(folder, override, message):
    model = open_model(str(folder))
    with pytest.raises(ClipinError, match=message):
        check_settings(config_of(model, PAGE, override), model)


def test_sizes_that_positions_are_fitted_to(folder):
    changes = "model.image.image_size=(40,40)", "model.text.context_length=10"
    started = Started(folder, PAGE, *changes)
    assert "image/position_embedding: 17 positions fitted to 26" in started.lines[0]
    assert "text/position_embedding: 12 positions fitted to 10" in started.lines[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(text_cfg=dict(hf_model_name="bert")), "text_cfg.hf_model_name 'bert'"),
        (dict(text_cfg=dict(pool_type="eos")), "pool_type 'eos': our towers know only"),
        (dict(vision_cfg=dict(pool_type="avg")), "vision_cfg.pool_type 'avg'"),
        (dict(vision_cfg=dict(width="wide")), "open_clip_config.json is damaged"),
        (dict(vision_cfg=[3]), "open_clip_config.json is damaged"),
    ],
)
def test_what_our_towers_do_not_have(vit, folder, tmp_path, change, message):
    content = description(vit)
    content["model_cfg"] |= change
    write_folder(tmp_path, parameters(vit, "params/"), content)
    with pytest.raises(ClipinError, match=message):
        open_model(str(tmp_path))
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(ClipinError, match="has no 'model_cfg'"):
        open_model(str(tmp_path))
