"""Programs of both encoders: they run without this package, on any batch."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.interop.exports import onnx_programs, stablehlo
from clipin_jax.interop.exports.encoders import make_encoders
from clipin_jax.interop.exports.formats import write_export
from tests.support.trained_models import SMALL, trained, trained_model_of

RUN = """
import sys
import numpy as np
from jax import export
from safetensors.numpy import load_file

folder, inputs, output = sys.argv[1:]
features = {}
for name, batch in np.load(inputs).items():
    kind = name.split("_")[0]
    with open(f"{folder}/{kind}.stablehlo", "rb") as file:
        program = export.deserialize(bytearray(file.read()))
    assert program.platforms == ("cpu", "tpu", "cuda")
    features[name] = program.call(load_file(f"{folder}/{kind}.safetensors"), batch)
assert "clipin_jax" not in sys.modules
np.savez(output, **features)
"""


def test_stablehlo_runs_in_a_fresh_process(tmp_path):
    pytest.importorskip("flatbuffers")
    run = trained("clip:clipin,runlocal", *SMALL, "model.scan_layers=True")
    write_export(run.model, "stablehlo", tmp_path / "out")
    inputs = dict(
        image_1=run.images[:1], image_3=run.images, text_1=run.tokens[:1],
        text_3=run.tokens,
    )  # fmt: skip
    np.savez(tmp_path / "inputs.npz", **inputs)
    files = [tmp_path / name for name in ("out", "inputs.npz", "features.npz")]
    subprocess.run([sys.executable, "-c", RUN, *files], check=True, cwd=tmp_path)
    with np.load(files[-1]) as file:
        features = dict(file)
    for kind, ours in (("image", run.image_features), ("text", run.text_features)):
        for size in (1, 3):
            assert np.abs(features[f"{kind}_{size}"] - ours[:size]).max() < 1e-5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of jax2onnx
@pytest.mark.parametrize(
    "spec",
    [
        ("clip:clipin,runlocal", "model.scan_layers=True"),
        ("siglip:runlocal",),
        ("clip:tower=RN50,runlocal",),
        ("coca:runlocal",),
        ("nclip:runlocal",),
        ("clip_zh:runlocal",),
    ],
)
def test_onnx_gives_our_features(tmp_path, spec):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("jax2onnx")
    run = trained(*spec)
    contents = write_export(run.model, "onnx", tmp_path / "out")
    assert sum("differs from ours by at most" in note for note in contents.notes) == 2
    for name, inputs, ours in (
        ("image", run.images, run.image_features),
        ("text", run.tokens, run.text_features),
    ):
        session = runtime.InferenceSession(tmp_path / "out" / f"{name}.onnx")
        for size in (1, 3):
            [theirs] = session.run(["embedding"], {name: inputs[:size]})
            assert np.abs(theirs - ours[:size]).max() < 1e-5


def test_without_the_libraries_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    model = trained_model_of("clip:runlocal", *SMALL)
    for name, library in (("stablehlo", "flatbuffers"), ("onnx", "jax2onnx")):
        with pytest.raises(ClipinError, match=f"needs {library}: pip install"):
            write_export(model, name, tmp_path / "out")
    assert not any(tmp_path.iterdir())


def test_what_jax2onnx_cannot_convert_is_one_line():
    def to_onnx(*_, **__):
        raise NotImplementedError("no plugin for 'weird'\nmore lines")

    encoder = make_encoders(trained_model_of("clip:runlocal", *SMALL))["image"]
    broken = SimpleNamespace(to_onnx=to_onnx)
    with pytest.raises(ClipinError, match="no plugin for 'weird'.: use --to stablehlo"):
        onnx_programs._convert(broken, "image", encoder)


def test_a_model_without_joint_space_is_refused():
    model = trained_model_of("clip:runlocal", *SMALL)
    config = model.config.copy_and_resolve_references()
    config.model.embed_dim = 0
    without = type(model)(config, model.variables, model.facts)
    with pytest.raises(ClipinError, match="no joint space"):
        make_encoders(without)


def test_the_sentence_on_inputs():
    model = trained_model_of("siglip:runlocal", *SMALL, "model.embed_dim=32")
    line = stablehlo.describe_inputs(model)
    assert "[batch, 32, 32, 3] uint8" in line and "[batch, 16] int32" in line
