"""Files of numpy with several arrays."""

import zipfile

import ml_dtypes
import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.interop.weights import open_weights


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_by_their_paths(tmp_path, save):
    arrays = {
        "params/img/embedding/kernel": np.arange(12, dtype="f4").reshape(3, 4),
        "params/t": np.array(2.3, "f8"),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "brain": np.array([[1.5, 2]], ml_dtypes.bfloat16),
        "empty": np.zeros((0, 2), "f2"),
    }
    save(tmp_path / "model.npz", **arrays)
    weights = open_weights(tmp_path / "model.npz")
    assert weights.names() == tuple(arrays) and not weights.metadata
    for name, expected in arrays.items():
        actual = weights.read(name)
        assert actual.dtype == weights.dtype(name) == expected.dtype
        assert actual.shape == weights.shape(name) == expected.shape
        assert np.array_equal(actual, expected) and actual.flags.writeable


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_python_objects_are_refused(tmp_path):
    objects = np.array([Touch(tmp_path / "touched")], dtype=object)
    np.savez(tmp_path / "model.npz", a=np.ones(2), b=objects)
    with pytest.raises(ClipinError, match="'b' is of Python objects.*save it as num"):
        open_weights(tmp_path / "model.npz")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("kept", [4, 200, -1])
def test_a_truncated_file(tmp_path, kept):
    path = tmp_path / "model.npz"
    np.savez(path, a=np.ones(200))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ClipinError, match="model.npz is damaged .*: fetch it again"):
        open_weights(path)


def test_a_damaged_array(tmp_path):
    path = tmp_path / "model.npz"
    np.savez(path, a=np.ones(20_000), b=np.zeros(3))
    content = bytearray(path.read_bytes())
    content[100_000] ^= 1
    path.write_bytes(content)
    weights = open_weights(path)
    with pytest.raises(ClipinError, match="array 'a' is damaged .BadZipFile"):
        weights.read("a")
    assert weights.read("b").tolist() == [0, 0, 0]


def test_a_member_that_is_no_array(tmp_path):
    path = tmp_path / "model.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", "no array")
    with pytest.raises(ClipinError, match="model.npz is damaged .*: fetch it again"):
        open_weights(path)
