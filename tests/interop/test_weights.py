"""Which file is what, by its content."""

import json
import os
import zipfile

import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.interop.weights import open_weights, weight_files, write_safetensors
from tests.support.torch_files import tensor, write_torch


def test_the_content_decides(tmp_path):
    array = np.ones(3, "f4")
    write_torch(tmp_path / "torch.weights", {"a": tensor(array)})
    with open(tmp_path / "numpy.weights", "wb") as file:
        np.savez(file, a=array)
    write_safetensors(tmp_path / "safetensors.weights", {"a": array})
    for path in tmp_path.iterdir():
        assert open_weights(str(path)).read("a").tolist() == [1, 1, 1]


@pytest.mark.parametrize("letters", range(300, 318))
def test_headers_of_any_length(tmp_path, letters):
    """Some begin with the first byte of a pickle."""
    path = tmp_path / "model"
    write_safetensors(path, {"a" * letters: np.ones(2)})
    assert len(open_weights(path).names()) == 1


@pytest.mark.parametrize(
    "content, message",
    [
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "Git-LFS pointer.*git lfs pull",
        ),
        (b"<!DOCTYPE html><html>", "an HTML page: the download failed"),
        (b"\x80\x02}q\x00.", "old format of PyTorch or no weights: convert it"),
        (b"\x89HDF\r\n\x1a\n", "no file of weights: give safetensors, .npz"),
        (b"", "no file of weights"),
    ],
)
@pytest.mark.parametrize("name", ["model.bin", "model.pt"])
def test_other_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ClipinError, match=f"{name} .*{message}"):
        open_weights(tmp_path / name)


def test_the_weights_of_a_folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    write_torch(tmp_path / "model.bin", {"a": tensor(np.zeros(3, "f4"))})
    assert open_weights(tmp_path).read("a").tolist() == [0, 0, 0]
    arrays = {"a": np.ones(3), "b": np.ones(3)}
    write_safetensors(tmp_path / "model.safetensors", arrays, shard_bytes=30)
    assert open_weights(tmp_path).read("a").tolist() == [1, 1, 1]  # not those of torch
    index = tmp_path / "model.safetensors.index.json"
    assert weight_files(tmp_path) == [index]
    write_safetensors(tmp_path / "head.safetensors", arrays)
    with pytest.raises(ClipinError, match="several files of weights, model.safe.*name"):
        open_weights(tmp_path)


def test_shards_of_pytorch(tmp_path):
    places = {}
    for name, shard in (("a", "00001-of-00002"), ("b", "00002-of-00002")):
        places[name] = f"pytorch_model-{shard}.bin"
        content = {name: tensor(np.full(3, len(places), "f4"))}
        write_torch(tmp_path / places[name], content)
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    assert weight_files(tmp_path) == [index]
    weights = open_weights(tmp_path)
    assert [weights.read(name).tolist() for name in "ab"] == [[1] * 3, [2] * 3]
    (tmp_path / places["b"]).unlink()
    with pytest.raises(ClipinError, match="needs pytorch_model-00002-of-00002.bin"):
        open_weights(index)


def test_another_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(ClipinError, match="a zip, but not of weights"):
        open_weights(tmp_path / "a.pt")


def test_no_file(tmp_path):
    with pytest.raises(ClipinError, match="none.pt is no file"):
        open_weights(tmp_path / "none.pt")
    with pytest.raises(ClipinError, match="has no file of weights"):
        open_weights(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ClipinError, match="pipe is no file"):
        open_weights(tmp_path / "pipe")
    with pytest.raises(ClipinError, match="is a URL"):
        open_weights("gs://bucket/model.safetensors")
