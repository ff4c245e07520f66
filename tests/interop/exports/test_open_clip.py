"""Folders for open_clip: its names and layout, and what it cannot hold."""

import json

import jax
import numpy as np
import pytest

from clipin_jax.core.parameter_paths import flatten, unflatten
from clipin_jax.errors import ClipinError
from clipin_jax.interop.exports.formats import write_export
from clipin_jax.interop.tables.open_clip import clip_table, resnet_table
from clipin_jax.interop.weights import open_weights
from tests.support.trained_models import (
    SMALL,
    assert_same_arrays,
    build,
    start_from_export,
    trained,
    trained_model_of,
)

COCA = ("model.embed_dim=64",)
MODELS = {
    "vit": ("clip:runlocal", SMALL),
    "resnet": ("clip:tower=RN50,runlocal", ()),
    "coca": ("coca:runlocal", COCA),
}


def exported(model, folder):
    """Returns the arrays of an exported folder, and its description."""
    write_export(model, "open_clip", folder)
    weights = open_weights(folder / "open_clip_model.safetensors")
    assert weights.metadata == {"format": "pt"}
    content = json.loads((folder / "open_clip_config.json").read_text())
    return {n: weights.read(n) for n in weights.names()}, content


@pytest.mark.parametrize("name", MODELS)
def test_a_run_starts_with_the_same_bits(tmp_path, name):
    spec, overrides = MODELS[name]
    model = trained_model_of(spec, *overrides)
    exported(model, tmp_path / "out")
    assert_same_arrays(start_from_export(tmp_path / "out", spec, *overrides), model)


def test_the_description_of_a_vit(tmp_path):
    _, content = exported(trained_model_of("clip:runlocal", *SMALL), tmp_path / "out")
    assert content["model_cfg"] == dict(
        embed_dim=24,
        quick_gelu=True,
        vision_cfg=dict(
            width=32, layers=1, mlp_ratio=4, head_width=16, image_size=32, patch_size=8
        ),
        text_cfg=dict(
            width=32, layers=2, mlp_ratio=4, heads=2, context_length=16,
            vocab_size=49408,
        ),
    )  # fmt: skip
    assert content["preprocess_cfg"]["interpolation"] == "bicubic"


def test_the_description_of_others(tmp_path):
    spec, overrides = MODELS["coca"]
    _, content = exported(trained_model_of(spec, *overrides), tmp_path / "coca")
    config = content["model_cfg"]
    assert config["vision_cfg"]["attn_pooler_queries"] == 8
    assert config["text_cfg"]["correct_cls_mask"] and config["text_cfg"]["embed_cls"]
    assert config["multimodal_cfg"]["heads"] == config["text_cfg"]["heads"]
    _, content = exported(trained_model_of("clip:tower=RN50,runlocal"), tmp_path / "rn")
    vision = content["model_cfg"]["vision_cfg"]
    # Its attention pool is 32 times as wide as its stem.
    assert vision["width"] * 32 // vision["head_width"] == 4
    assert vision["layers"] == [1, 1, 1, 1] and vision["patch_size"] is None


@pytest.mark.parametrize("tower", ["", "tower=RN50,"])
def test_the_merged_pre_projector_gives_the_same_features(tmp_path, tower):
    """A plain model with the merged arrays has the features of the run."""
    overrides = () if tower else SMALL
    run = trained(f"clip:clipin,{tower}runlocal", *overrides)
    arrays, _ = exported(run.model, tmp_path / "out")
    flat = (resnet_table() if tower else clip_table()).to_flat(arrays)
    assert not any("pre_projector" in path for path in flat)
    image, text = features_of(f"clip:{tower}runlocal", overrides, flat, run)
    assert np.abs(image - run.image_features).max() < 1e-5
    assert np.abs(text - run.text_features).max() < 1e-5


def features_of(spec, overrides, flat, run):
    """Returns the features of a model of a config with other arrays."""
    experiment = build(spec, *overrides)
    variables = {
        name: unflatten({path: flat[path] for path in flatten(collection)})
        for name, collection in experiment.abstract_state.variables.items()
    }
    view = {"image": run.images, "text": run.tokens}
    encode = jax.jit(lambda v, x: experiment.learner.apply(v, x, method="encode"))
    features = encode(variables, view)
    return [np.asarray(features[m]["embedding"]) for m in ("image", "text")]


@pytest.mark.parametrize(
    ("spec", "overrides", "message"),
    [
        ("clip:runlocal", ["model.image.pool=map"], "no model.image.pool 'map'"),
        ("clip:runlocal", ["model.image.activation=gelu"], "QuickGELU in both"),
        ("clip:runlocal", ["data.tokenizer.pad_with_end=True"], "pads with 0"),
        ("siglip:runlocal", [], "no model.text.causal False"),
        ("coca:runlocal", [], "must be equal"),
        ("coca:clipin,runlocal", [*COCA], "no bias after the image tower"),
        ("blip:runlocal", [], "no model.text.name 'mixture_bert'"),
    ],
)
def test_what_it_cannot_hold_is_refused(tmp_path, spec, overrides, message):
    model = trained_model_of(spec, *overrides)
    with pytest.raises(ClipinError, match=message):
        write_export(model, "open_clip", tmp_path / "out")
    assert not any(tmp_path.iterdir())
