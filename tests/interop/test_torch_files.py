"""Files of PyTorch, read without it; the last tests compare with it."""

import collections
import pickle
import tarfile
import zipfile

import ml_dtypes
import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.interop.weights import open_weights
from tests.support.torch_files import (
    Call,
    Global,
    Instance,
    Storage,
    tensor,
    write_torch,
)

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.pt"


def error_of(path, read=""):
    with pytest.raises(ClipinError) as error:
        open_weights(path).read(read)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_state_dict(path, compression):
    arrays = {
        "visual.weight": np.arange(12, dtype="f4").reshape(3, 4),
        "half": np.array([1.5, -2], "f2"),
        "brain": np.array([[1.5], [3]], BFLOAT16),
        "steps": np.array(7),
        "mask": np.array([True, False]),
        "empty": np.zeros((0, 3), "f4"),
    }
    state = {name: tensor(array) for name, array in arrays.items()}
    weights = open_weights(write_torch(path, state, compression=compression))
    assert weights.names() == tuple(arrays) and not weights.metadata
    for name, expected in arrays.items():
        actual = weights.read(name)
        assert actual.dtype == weights.dtype(name) == expected.dtype
        assert actual.shape == weights.shape(name) == expected.shape
        assert actual.tobytes() == expected.tobytes() and actual.flags.writeable


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_tensors_share_a_storage(path, compression):
    numbers = np.arange(24, dtype="f4")
    storage = Storage(numbers)
    state = {
        "second_row": tensor(storage, 4, (4,), (1,)),
        "transposed": tensor(storage, 0, (4, 6), (1, 4)),
        "every_other": tensor(storage, 1, (3,), (2,)),
        "expanded": tensor(storage, 5, (2, 3), (0, 1)),
        "one": tensor(storage, 23, (), ()),
    }
    weights = open_weights(write_torch(path, state, compression=compression))
    assert weights.read("second_row").tolist() == [4, 5, 6, 7]
    assert np.array_equal(weights.read("transposed"), numbers.reshape(6, 4).T)
    assert weights.read("every_other").tolist() == [1, 3, 5]
    assert weights.read("expanded").tolist() == [[5, 6, 7]] * 2
    assert weights.read("one") == 23
    changed = weights.read("expanded")
    changed[0] = 0
    assert changed[1].tolist() == weights.read("second_row")[1:].tolist()


def test_what_a_training_script_adds(path):
    state = {"module.a": tensor(np.ones(2, "f4")), "module.b": tensor(np.zeros(3))}
    state["module.b"].arguments[0].type = "DoubleStorage"
    scalar = Global("numpy.core.multiarray", "scalar")
    dtype = Call(Global("numpy", "dtype"), ("f8", False, True))
    content = {
        "epoch": 3,
        "state_dict": state,
        "args": Instance(Global("argparse", "Namespace"), {"lr": 0.1}),
        "best": Call(scalar, (dtype, "\0" * 8)),
        "betas": Call(Global("torch", "Size"), ((2, 3),)),
        "names": {"a", "b"},
        "output": Call(Global("pathlib", "PosixPath"), ("runs", "vit")),
    }
    weights = open_weights(write_torch(path, content))
    assert weights.names() == ("a", "b")
    assert weights.read("a").tolist() == [1, 1]
    assert weights.metadata["epoch"] == 3 and weights.metadata["betas"] == (2, 3)
    assert weights.metadata["names"] == {"a", "b"}
    assert weights.metadata["output"] == "runs/vit"
    assert weights.metadata["args"].attributes == {"lr": 0.1}
    assert repr(weights.metadata["args"]) == "<argparse.Namespace>"


def test_the_tensors_under_model_come_first(path):
    content = {"model": {"a": tensor(np.ones(2, "f4"))}, "loss": tensor(np.array(1.0))}
    content["loss"].arguments[0].type = "DoubleStorage"
    weights = open_weights(write_torch(path, content))
    assert weights.names() == ("a",) and set(weights.metadata) == {"loss"}


def test_a_prefix_of_some_names_stays(path):
    state = {"module.a": tensor(np.ones(2, "f4")), "b": tensor(np.ones(2, "f4"))}
    assert open_weights(write_torch(path, state)).names() == ("module.a", "b")


def test_parameters_and_versions_of_modules(path):
    parameter = Global("torch._utils", "_rebuild_parameter")
    weight = Call(parameter, (tensor(np.ones(2, "f4")), True, ()))
    state = collections.OrderedDict(weight=weight)
    state._metadata = {"": {"version": 1}}
    assert open_weights(write_torch(path, state)).read("weight").tolist() == [1, 1]


def test_torchscript(path):
    def module(name, **state):
        return Instance(Global(f"__torch__.{name}", "Model"), state)

    conv = module("torch.___torch_mangle_3", weight=tensor(np.ones((2, 2), "f2")))
    content = module(
        "clip.model",
        logit_scale=tensor(np.array(4.6, "f4")),
        visual=module("visual", conv1=conv, input_resolution=224),
        hook=None,
    )
    weights = open_weights(write_torch(path, content))
    assert weights.names() == ("logit_scale", "visual.conv1.weight")
    assert weights.read("visual.conv1.weight").tolist() == [[1, 1], [1, 1]]
    assert weights.metadata == {"visual.input_resolution": 224}


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_in_a_file_is_run(tmp_path, path, protocol):
    touched = tmp_path / "touched"
    content = pickle.dumps({"a": Touch(touched)}, protocol)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    assert "wants to call " in error_of(path) and "open: refused" in error_of(path)
    assert not touched.exists()
    pickle.loads(content)["a"].close()
    assert touched.exists()  # it would have


@pytest.mark.parametrize(
    "code",
    [
        b"cposix\nsystem\n(S'touch PATH'\ntR.",
        b"(S'touch PATH'\niposix\nsystem\n.",
        b"(cposix\nsystem\nS'touch PATH'\no.",
        b"\x80\x02cbuiltins\neval\nU\x01a\x85\x81}b.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}U\x04funccposix\nsystem\nsb(tR.",
        b"\x80\x02ctorch\nFloatStorage\n}U\x05dtypecposix\nsystem\nsb.",
        b"\x80\x02ccollections\nOrderedDict\n)R}U\x05itemscposix\nsystem\nsb.",
        b"\x80\x04\x8c\x0btorch._utils\x8c\x0cos.path.join\x93)R.",
    ],
)
def test_no_opcode_reaches_a_function(tmp_path, path, code):
    touched = tmp_path / "touched"
    with zipfile.ZipFile(path, "w") as archive:
        code = code.replace(b"PATH", str(touched).encode())
        archive.writestr("archive/data.pkl", code)
    assert str(path) in error_of(path)
    assert not touched.exists()


@pytest.mark.parametrize(
    "offset, shape, strides",
    [
        (0, (7,), (1,)),
        (1, (2, 3), (3, 1)),
        (0, (2, 2), (5, 1)),
        (-1, (2,), (1,)),
        (0, (-2,), (1,)),
        (5, (2,), (-1,)),
        (0, (2, 3), (1,)),
        (0, ("a",), (1,)),
        (0, (1,) * 80, (1,) * 80),
        (10**30, (1,), (1,)),
    ],
)
def test_a_tensor_outside_of_its_storage(path, offset, shape, strides):
    storage = Storage(np.arange(6, dtype="f4"))
    write_torch(path, {"weight": tensor(storage, offset, shape, strides)})
    assert "array 'weight'" in error_of(path, "weight")


@pytest.mark.parametrize(
    "content, message",
    [
        ({"a": 1, "b": 2}, "no tensors under model or state_dict .*where it has a, b"),
        ({}, "where it has nothing"),
        ([1], "holds a list and no state dict"),
        (Instance(Global("timm.models", "ViT"), {}), "holds a timm.models.ViT and no"),
        (
            {"a": tensor(Storage(np.ones(2, "f4"), "QInt8Storage"), 0, (2,), (1,))},
            "elements of type torch.QInt8Storage.*convert",
        ),
        ({"a": tensor("no storage", 0, (2,), (1,))}, "array 'a' is damaged"),
    ],
)
def test_no_state_dict(path, content, message):
    with pytest.raises(ClipinError, match=message):
        open_weights(write_torch(path, content))


def test_a_module_that_holds_itself(path):
    with zipfile.ZipFile(path, "w") as archive:
        code = b"\x80\x02c__torch__\nA\n)\x81q\x00}U\x01ah\x00sb."
        archive.writestr("archive/data.pkl", code)
    assert str(path) in error_of(path)


def test_bytes_of_another_order(path):
    write_torch(path, {"a": tensor(np.ones(2, "f4"))}, order=b"big")
    assert "has big-endian numbers" in error_of(path)


@pytest.mark.parametrize("kept", [3, 100, 300, -1])
def test_a_truncated_file(path, kept):
    write_torch(path, {"a": tensor(np.ones(200, "f4"))})
    path.write_bytes(path.read_bytes()[:kept])
    assert str(path) in error_of(path)


def test_old_formats(path):
    with open(path, "wb") as file:
        pickle.dump(0x1950A86A20F9469CFC6C, file, protocol=2)
    assert "old format of PyTorch" in error_of(path)
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    assert "torch.save(torch.load(f, weights_only=True), g)" in error_of(path)


def test_a_record_that_is_missing(path):
    write_torch(path, {"a": tensor(np.ones(2, "f4"))})
    with zipfile.ZipFile(path) as archive:
        content = archive.read("archive/data.pkl")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    assert "array 'a' is damaged" in error_of(path)


def test_reading_takes_the_memory_of_one_array(path):
    resident = pytest.importorskip("psutil").Process().memory_info
    state = {f"layer{n}": tensor(np.full(2_500_000, n, "f4")) for n in range(5)}
    write_torch(path, state)  # 50 MB
    before = resident().rss
    weights = open_weights(path)
    kept = weights.read("layer3")
    assert (kept == 3).all()
    assert resident().rss - before < 1.5 * kept.nbytes


def check_equal_to_torch(path, state):
    torch = pytest.importorskip("torch")
    weights = open_weights(path)
    assert set(weights.names()) == set(state)
    for name, expected in state.items():
        actual = weights.read(name)
        assert actual.shape == tuple(expected.shape)
        if expected.dtype == torch.bfloat16:
            assert actual.dtype == BFLOAT16
            actual, expected = actual.astype("f4"), expected.float()
        assert actual.dtype == expected.detach().numpy().dtype
        assert np.array_equal(actual, expected.detach().numpy())


def test_against_torch_save(path):
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    matrix = torch.randn(6, 5)
    state = {
        **model.state_dict(),
        "parameter": torch.nn.Parameter(torch.ones(3)),
        "transposed": matrix.T,
        "window": matrix[2:4, 1:3],
        "half": matrix.half(),
        "brain": matrix.bfloat16(),
        "complex": torch.ones(2, dtype=torch.complex64),
        "small": torch.tensor([1, -1], dtype=torch.int8),
        "expanded": torch.ones(1, 3).expand(2, 3),
        "mask": matrix > 0,
    }
    torch.save({"model": state, "optimizer": {"state": {0: matrix}}}, path)
    check_equal_to_torch(path, state)
    torch.save(model.state_dict(), path)
    check_equal_to_torch(path, model.state_dict())


def test_a_whole_module_of_torch(path):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(2, 2), path)
    assert "Linear" in error_of(path) or "refused" in error_of(path)


def test_old_formats_of_torch(path):
    torch = pytest.importorskip("torch")
    state = {"a": torch.ones(2)}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert "old format of PyTorch" in error_of(path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_against_torchscript(path):
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).half()
    model.register_buffer("input_resolution", torch.tensor(224))
    traced = torch.jit.trace(model.float().eval(), torch.ones(1, 3))
    torch.jit.save(traced, path)
    check_equal_to_torch(path, traced.state_dict())
