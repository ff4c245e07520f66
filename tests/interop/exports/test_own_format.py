"""Our own safetensors: any model is read back bit for bit."""

import json

import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.interop.exports.formats import write_export
from clipin_jax.interop.open_model import open_model
from clipin_jax.interop.weights import open_weights, write_safetensors
from tests.support.trained_models import (
    SMALL,
    assert_same_arrays,
    start_from_export,
    trained_model_of,
)


@pytest.mark.parametrize(
    ("spec", "overrides"),
    [
        ("clip:clipin,runlocal", SMALL),
        ("clip:tower=RN50,runlocal", ()),
        ("coca:runlocal", ("model.scan_layers=True",)),
    ],
)
def test_a_run_starts_with_the_same_bits(tmp_path, spec, overrides):
    model = trained_model_of(spec, *overrides)
    write_export(model, "safetensors", tmp_path / "out")
    # With all heads.
    assert_same_arrays(start_from_export(tmp_path / "out", spec, *overrides), model)


def test_another_model_is_refused(tmp_path):
    model = trained_model_of("clip:runlocal", *SMALL)
    write_export(model, "safetensors", tmp_path / "out")
    for override, message in (
        ("model.image.activation=gelu", "set model.image.activation=quick_gelu"),
        ("data.tokenizer.pad_with_end=True", "data.tokenizer.pad_with_end is True"),
    ):
        with pytest.raises(ClipinError, match=message):
            start_from_export(tmp_path / "out", "clip:runlocal", *SMALL, override)


def test_the_config_names_no_folder_of_the_run(tmp_path):
    model = trained_model_of("clip:runlocal", *SMALL, "init_from=/secret/place")
    write_export(model, "safetensors", tmp_path / "out")
    weights = open_weights(tmp_path / "out" / "model.safetensors")
    config = json.loads(weights.metadata["config"])
    assert config["data"]["source"] == {"name": "scenes"} and "evals" not in config
    texts = [weights.metadata["config"], (tmp_path / "out" / "README.md").read_text()]
    assert not any("/secret" in text for text in texts)


def test_other_safetensors_are_of_others(tmp_path):
    write_export(
        trained_model_of("clip:runlocal", *SMALL), "open_clip", tmp_path / "out"
    )
    model = open_model(str(tmp_path / "out" / "open_clip_model.safetensors"))
    assert model.label.startswith("open_clip's model")


def test_low_rank_factors_are_merged(tmp_path):
    model = trained_model_of("clip:runlocal", *SMALL, "model.lora.image.rank=2")
    write_export(model, "safetensors", tmp_path / "out")
    plain = start_from_export(tmp_path / "out", "clip:runlocal", *SMALL)
    assert_same_arrays(plain, model)


def test_damage_is_one_line(tmp_path):
    arrays = {"a": np.zeros(1)}
    for metadata in ({"format": "clipin_jax"}, {"format": "clipin_jax", "config": "{"}):
        write_safetensors(tmp_path / "model.safetensors", arrays, metadata)
        with pytest.raises(ClipinError, match="is damaged: its config"):
            open_model(str(tmp_path))
