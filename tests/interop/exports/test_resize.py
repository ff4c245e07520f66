"""Exports state how images are brought to their size, and readers compare it."""

import pytest

from clipin_jax.config import load_config
from clipin_jax.errors import ClipinError
from clipin_jax.interop.exports.formats import write_export
from clipin_jax.interop.foreign_model import check_settings
from clipin_jax.interop.open_model import open_model
from tests.support.trained_models import SMALL, trained_model_of

SPEC = "clip:runlocal"


@pytest.mark.parametrize("resize", ["shortest", "squash"])
@pytest.mark.parametrize("name", ["huggingface", "open_clip", "safetensors"])
def test_resize_is_read_back(tmp_path, name, resize):
    model = trained_model_of(SPEC, *SMALL, f"data.resize={resize}")
    write_export(model, name, tmp_path / "out")
    read = open_model(str(tmp_path / "out"))
    assert read.settings["data.resize"] == resize
    other = {"shortest": "squash", "squash": "shortest"}[resize]
    config = load_config(SPEC, (*SMALL, f"data.resize={other}"))
    with pytest.raises(ClipinError, match=f"set data.resize={resize}"):
        check_settings(config, read)


def test_the_sentence():
    for resize, words in (
        ("shortest", "cropped at the centre"),
        ("squash", "whatever"),
    ):
        model = trained_model_of(SPEC, *SMALL, f"data.resize={resize}")
        assert words in model.image_size and "32x32 pixels" in model.image_size
