"""Programs of `jax.export`: StableHLO that jax runs without this package.

Source: https://docs.jax.dev/en/latest/export/export.html, which also states for how
long other versions of jax can read a program.
"""

from __future__ import annotations

import importlib

import jax
from jax import export

from clipin_jax.errors import ClipinError
from clipin_jax.interop.exports.encoders import Encoder, make_encoders
from clipin_jax.interop.exports.folder import (
    Contents,
    bytes_file,
    safetensors_file,
)
from clipin_jax.interop.exports.tokenizer_files import tokenizer_files
from clipin_jax.interop.exports.trained_model import TrainedModel

PLATFORMS = ("cpu", "tpu", "cuda")


def export_stablehlo(model: TrainedModel) -> Contents:
    """Returns a folder with a program and the weights of each encoder.

    Raises:
      ClipinError: `flatbuffers` is not installed.
    """
    check_serializer()
    files = tokenizer_files(model, ["input_ids"])
    for name, encoder in make_encoders(model).items():
        files[f"{name}.stablehlo"] = bytes_file(_serialize(encoder))
        files[f"{name}.safetensors"] = safetensors_file(encoder.weights)
    return Contents(
        files=files,
        library="jax",
        usage=_usage(model),
        notes=[describe_inputs(model)],
    )


def check_serializer() -> None:
    """Raises ClipinError if programs cannot be serialized."""
    try:
        importlib.import_module("flatbuffers")
    except ImportError as error:
        raise ClipinError(
            "--to stablehlo needs flatbuffers: pip install 'clipin_jax[export]'"
        ) from error


def _serialize(encoder: Encoder) -> bytes:
    [batch] = export.symbolic_shape("batch")
    weights = {
        name: jax.ShapeDtypeStruct(value.shape, value.dtype)
        for name, value in encoder.weights.items()
    }
    inputs = jax.ShapeDtypeStruct((batch, *encoder.shape), encoder.dtype)
    program = export.export(jax.jit(encoder.encode), platforms=PLATFORMS)
    return bytes(program(weights, inputs).serialize())


def describe_inputs(model: TrainedModel) -> str:
    """Returns a sentence on images and ids, for programs that take both as arrays."""
    data = model.config.data
    height, width = data.image_size
    tokenizer = data.tokenizer.get("name", "bpe")
    return (
        f"Images are [batch, {height}, {width}, 3] uint8, RGB, {model.image_size}, "
        f"normalised inside. Texts are [batch, {data.context_length}] int32 ids of the "
        f"tokenizer {tokenizer}, padded with {model.tokenizer.pad}."
    )


def _usage(model: TrainedModel) -> str:
    height, width = model.config.data.image_size
    return f"""\
import numpy as np
from jax import export
from safetensors.numpy import load_file

weights = load_file("FOLDER/image.safetensors")
with open("FOLDER/image.stablehlo", "rb") as file:
    encode_image = export.deserialize(bytearray(file.read()))
images = np.zeros((2, {height}, {width}, 3), np.uint8)
encode_image.call(weights, images)  # [2, {model.config.model.embed_dim}], of unit norm
# text.safetensors and text.stablehlo encode ids in the same way
"""
