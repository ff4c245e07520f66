"""Safetensors: one file and shards, read and written."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from clipin_jax.errors import ClipinError
from clipin_jax.interop.weights import open_weights, write_safetensors


def example():
    rng = np.random.default_rng(0)
    return {
        "text.weight": rng.normal(size=(3, 4)).astype("f4"),
        "half": rng.normal(size=(2, 2)).astype("f2"),
        "brain": rng.normal(size=5).astype(ml_dtypes.bfloat16),
        "scale": np.array(2.5, "f8"),
        "ids": np.arange(6).reshape(2, 3),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 7), "f4"),
    }


def check_equal(weights, arrays):
    assert set(weights.names()) == set(arrays)
    for name, expected in arrays.items():
        actual = weights.read(name)
        assert actual.dtype == weights.dtype(name) == expected.dtype
        assert actual.shape == weights.shape(name) == expected.shape
        assert actual.tobytes() == np.ascontiguousarray(expected).tobytes()
        assert actual.flags.writeable


def test_a_file(tmp_path):
    path = tmp_path / "model.safetensors"
    assert write_safetensors(path, example(), {"format": "pt"}) == [path]
    weights = open_weights(path)
    check_equal(weights, example())
    assert weights.origin == str(path) and weights.metadata == {"format": "pt"}
    assert load_file(path)["ids"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_arrays_of_any_layout_are_written_by_their_values(tmp_path):
    arrays = {
        "transposed": np.arange(6.0).reshape(2, 3).T,
        "strided": np.arange(10)[::3],
        "swapped": np.arange(3, dtype=">f4"),
    }
    write_safetensors(tmp_path / "a.safetensors", arrays)
    weights = open_weights(tmp_path / "a.safetensors")
    for name, expected in arrays.items():
        assert np.array_equal(weights.read(name), expected)


def test_shards(tmp_path):
    path = tmp_path / "model.safetensors"
    files = write_safetensors(path, iter(example().items()), shard_bytes=50)
    assert [file.name for file in files] == [
        *(f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)),
        "model.safetensors.index.json",
    ]
    assert sorted(tmp_path.iterdir()) == sorted(files)  # and nothing else
    weights = open_weights(files[-1])
    check_equal(weights, example())
    assert weights.metadata["total_size"] == sum(x.nbytes for x in example().values())


@pytest.mark.parametrize("bytes_before, bytes_now", [(50, 10**9), (10**9, 50)])
def test_copies_in_different_numbers_of_files_do_not_mix(
    tmp_path, bytes_before, bytes_now
):
    path = tmp_path / "model.safetensors"
    write_safetensors(path, example(), shard_bytes=bytes_before)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ClipinError, match="is of an earlier copy: remove it"):
        write_safetensors(path, example(), shard_bytes=bytes_now)
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {"a": np.zeros(3)})

    def broken():
        yield "a", np.ones(3)
        raise ClipinError("cannot be computed")

    with pytest.raises(ClipinError, match="cannot be computed"):
        write_safetensors(path, broken(), shard_bytes=1)
    assert list(tmp_path.iterdir()) == [path]
    assert open_weights(path).read("a").tolist() == [0, 0, 0]
    write_safetensors(path, {"a": np.ones(3)})
    assert open_weights(path).read("a").tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "pairs, message",
    [
        ([("a", np.array(["text"]))], "cannot write 'a' of <U4"),
        ([("a", np.zeros(1)), ("a", np.zeros(1))], "cannot write 'a' .*name is taken"),
    ],
)
def test_what_cannot_be_written(tmp_path, pairs, message):
    with pytest.raises(ClipinError, match=message):
        write_safetensors(tmp_path / "model.safetensors", pairs)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kept", [0, 7, 60, -1])
def test_a_truncated_file(tmp_path, kept):
    path = tmp_path / "model.safetensors"
    write_safetensors(path, example())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        ClipinError, match="is damaged .SafetensorError: .*: fetch it again"
    ):
        open_weights(path)


def test_an_unknown_type(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": np.zeros(3, ml_dtypes.float8_e4m3fn)}, path)
    with pytest.raises(ClipinError, match="'a' is of type F8_E4M3.*convert"):
        open_weights(path)


def test_a_name_that_is_not_there(tmp_path):
    write_safetensors(tmp_path / "a.safetensors", example())
    weights = open_weights(tmp_path / "a.safetensors")
    with pytest.raises(ClipinError, match="no array 'text.wait': did you mean"):
        weights.read("text.wait")


def test_a_damaged_set_of_shards(tmp_path):
    path = tmp_path / "model.safetensors"
    *shards, index = write_safetensors(path, example(), shard_bytes=50)
    content = json.loads(index.read_text())

    def message(weight_map):
        index.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(ClipinError) as error:
            open_weights(index)
        return str(error.value)

    places = content["weight_map"]
    assert "names arrays that are not in model-00001" in message(
        {**places, "head": shards[0].name}
    )
    assert "is no file beside it" in message({"a": "../secret.safetensors"})
    assert "is no index of weights" in message(3)
    shards[1].unlink()
    assert f"needs {shards[1].name}, which is not there" in message(places)


def test_reading_leaves_the_rest_in_the_file(tmp_path):
    """Counts the bytes that this process reads."""
    arrays = {f"layer{number}": np.full((1000, 250), number) for number in range(25)}
    write_safetensors(tmp_path / "model.safetensors", arrays)

    def bytes_read():
        with open("/proc/self/io") as file:
            return int(file.readline().split()[1])

    before = bytes_read()
    weights = open_weights(tmp_path / "model.safetensors")
    assert (weights.read("layer7") == 7).all()
    assert bytes_read() - before < 2_000_000 + 100_000
