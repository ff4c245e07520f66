"""Checkpoints for big_vision: SigLIP's arrays, bit for bit."""

import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.interop.exports.formats import write_export
from clipin_jax.interop.tables.big_vision import siglip_table
from clipin_jax.interop.weights import open_weights
from tests.support.trained_models import SMALL, trained_model_of

SIGLIP = (*SMALL, "model.embed_dim=32")


def test_arrays_are_ours_bit_for_bit(tmp_path):
    model = trained_model_of("siglip:runlocal", *SIGLIP)
    write_export(model, "big_vision", tmp_path / "out")
    weights = open_weights(tmp_path / "out")
    arrays = {n.removeprefix("params/"): weights.read(n) for n in weights.names()}
    assert arrays["img/Transformer/encoder_norm/scale"].shape == (32,)
    assert arrays["t"].shape == (1,)
    flat = siglip_table(2, 2).to_flat(arrays)
    assert flat.keys() == model.arrays.keys()
    for path, value in model.arrays.items():
        np.testing.assert_array_equal(flat[path], value, err_msg=path)


@pytest.mark.parametrize(
    ("spec", "overrides", "message"),
    [
        ("clip:runlocal", SMALL, "no model.image.pool 'cls'"),
        ("siglip:clipin,runlocal", (), "no layer after the image tower"),
        (
            "siglip:runlocal",
            ("model.text.norm_eps=1e-5",),
            "norm_eps 1e-05 .only 1e-06",
        ),
    ],
)
def test_what_it_cannot_hold_is_refused(tmp_path, spec, overrides, message):
    model = trained_model_of(spec, *overrides)
    with pytest.raises(ClipinError, match=message):
        write_export(model, "big_vision", tmp_path / "out")
    assert not any(tmp_path.iterdir())
