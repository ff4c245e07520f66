"""Checkpoints for big_vision: SigLIP's arrays, bit for bit."""

import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.interop.exports.formats import write_export
from clipin_jax.interop.weights import open_weights
from tests.support.trained_models import (
    SMALL,
    assert_same_arrays,
    start_from_export,
    trained_model_of,
)

SIGLIP = (*SMALL, "model.embed_dim=32")


def test_a_run_starts_with_the_same_bits(tmp_path):
    model = trained_model_of("siglip:runlocal", *SIGLIP)
    write_export(model, "big_vision", tmp_path / "out")
    weights = open_weights(tmp_path / "out")
    assert weights.shape("params/img/Transformer/encoder_norm/scale") == (32,)
    assert weights.shape("params/t") == (1,)
    source = tmp_path / "out" / "model.npz"
    assert_same_arrays(start_from_export(source, "siglip:runlocal", *SIGLIP), model)


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
