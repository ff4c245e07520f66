"""ONNX of both encoders, by jax2onnx, checked with onnxruntime before it is written."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from clipin_jax.errors import ClipinError, first_line
from clipin_jax.interop.exports.encoders import BATCHES, Encoder, make_encoders
from clipin_jax.interop.exports.folder import Contents, bytes_file
from clipin_jax.interop.exports.stablehlo import describe_inputs
from clipin_jax.interop.exports.tokenizer_files import tokenizer_files
from clipin_jax.interop.exports.trained_model import TrainedModel

TOLERANCE = 1e-4  # of features of unit norm


def export_onnx(model: TrainedModel) -> Contents:
    """Returns a folder with an ONNX file of each encoder, which computes in float32.

    Raises:
      ClipinError: a library is not installed, jax2onnx has no operation for a part of
        the model, or the features differ.
    """
    jax2onnx, runtime = _library("jax2onnx"), _library("onnxruntime")
    files = tokenizer_files(model, ["input_ids"])
    notes = [describe_inputs(model)]
    for name, encoder in make_encoders(model, dtype="float32").items():
        program = _convert(jax2onnx, name, encoder)
        difference = _difference(runtime, program, encoder)
        if not difference < TOLERANCE:
            raise ClipinError(
                f"the {name} encoder in ONNX differs from ours by {difference:.1e}: "
                "another version of jax2onnx may help, or --to stablehlo"
            )
        notes.append(
            f"The {name} encoder differs from ours by at most {difference:.1e} in "
            f"onnxruntime {runtime.__version__}."
        )
        files[f"{name}.onnx"] = bytes_file(program)
    return Contents(
        files=files,
        library="onnx",
        usage=_usage(model),
        notes=notes,
    )


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ClipinError(
            f"--to onnx needs {name}: pip install 'clipin_jax[export]'"
        ) from error


def _convert(jax2onnx: Any, name: str, encoder: Encoder) -> bytes:
    """Returns the ONNX program of an encoder, with its weights inside."""
    weights = {key: jnp.asarray(value) for key, value in encoder.weights.items()}
    [batch] = jax.export.symbolic_shape("batch")
    inputs = jax.ShapeDtypeStruct((batch, *encoder.shape), encoder.dtype)
    try:
        with _quiet():
            program = jax2onnx.to_onnx(
                lambda x: encoder.encode(weights, x),
                inputs=[inputs],
                model_name=name,
                input_names=[name],
                output_names=["embedding"],
            )
        return program.SerializeToString()
    # Besides errors of its own, the library passes on those of several others.
    except Exception as error:
        raise ClipinError(
            f"jax2onnx cannot convert the {name} encoder "
            f"({type(error).__name__}: {first_line(error)}): use --to stablehlo"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leaves out warnings of a library about shapes that ONNX does not need."""
    log = logging.getLogger("onnx_ir")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _difference(runtime: Any, program: bytes, encoder: Encoder) -> float:
    """Returns the largest difference between onnxruntime's features and ours."""
    providers = ["CPUExecutionProvider"]
    session = runtime.InferenceSession(program, providers=providers)
    [name] = [x.name for x in session.get_inputs()]
    encode = jax.jit(encoder.encode)
    largest = 0.0
    for batch_size in BATCHES:
        inputs = encoder.example(batch_size)
        [theirs] = session.run(None, {name: inputs})
        ours = np.asarray(encode(encoder.weights, inputs))
        largest = max(largest, float(np.abs(theirs - ours).max()))
    return largest


def _usage(model: TrainedModel) -> str:
    height, width = model.config.data.image_size
    return f"""\
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("FOLDER/image.onnx")
images = np.zeros((2, {height}, {width}, 3), np.uint8)
session.run(None, {{"image": images}})  # [2, {model.config.model.embed_dim}]
# text.onnx encodes ids in the same way, as "text"
"""
