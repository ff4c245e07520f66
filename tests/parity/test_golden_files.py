"""Golden files: both forms hold the same arrays; missing files skip a test."""

import json

import numpy as np
import pytest

from tests.parity.compare import Sketch, deviation
from tests.parity.golden_files import (
    GoldenFile,
    load,
    load_json,
    read_arrays,
    write_arrays,
)
from tests.parity.make_sketches import sketched

MEGABYTE = 10**6


def whole_arrays():
    random = np.random.default_rng(0)
    single = random.normal(size=(3, 40)).astype(np.float32).astype(np.float64)
    single[0, :3] = np.nan, -0.0, np.inf
    return {
        "meta": np.array(json.dumps({"config": {"batch": 3}})),
        "init/params/a.weight": single,
        "step1/inputs/tokens": random.integers(-100, 2**40, (3, 5)),
        "step1/inputs/alpha": np.array(0.4),
        "step1/inputs/valid": np.array([True, False]),
        "step1/losses/total": np.array(0.1),
        "step1/grads/a.weight": random.normal(size=(3, 40)),
        "step1/grads/a.bias": random.normal(size=3),
        "step2/losses/total": np.array(0.2),
        "step10/losses/total": np.array(0.3),
    }


def test_sketched_file_keeps_inputs_bit_for_bit(tmp_path):
    whole = whole_arrays()
    write_arrays(tmp_path / "a.npz", sketched(whole))
    kept = read_arrays(tmp_path / "a.npz")
    assert list(kept) == list(whole)
    derived = kept.pop("step1/grads/a.weight")
    assert isinstance(derived, Sketch)
    assert deviation(whole["step1/grads/a.weight"], derived) == 0
    for name, value in kept.items():
        assert value.dtype == whole[name].dtype, name
        assert value.shape == whole[name].shape, name
        assert value.tobytes() == whole[name].tobytes(), name


def test_equal_arrays_give_equal_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        write_arrays(tmp_path / name, sketched(whole_arrays()))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_steps_are_numbered_as_in_the_file(tmp_path):
    np.savez(tmp_path / "a.npz", **whole_arrays())
    file = load(tmp_path, "a.npz")
    assert file.steps == [1, 2, 10] and file.sizes == {"batch": 3}
    first = {k: v for k, v in file.arrays.items() if not k.startswith("step2")}
    assert GoldenFile("a.npz", first, file.meta).steps == [1, 10]
    with pytest.raises(AssertionError, match="a.npz has no gradcam/itm_layer"):
        file.list_numbers("gradcam/itm_layer{}/")


def test_missing_files_and_sections(tmp_path):
    np.savez(tmp_path / "a.npz", **whole_arrays())
    with pytest.raises(pytest.skip.Exception, match="no b.npz in"):
        load(tmp_path, "b.npz")
    with pytest.raises(pytest.skip.Exception, match="no b.json in"):
        load_json(tmp_path, "b.json")
    file = load(tmp_path, "a.npz")
    with pytest.raises(pytest.skip.Exception, match="a.npz has no eval/"):
        file.section_or_skip("eval/")
    with pytest.raises(AssertionError, match="a.npz has no step3/"):
        file.section("step3/")


def test_committed_files_are_small(repository):
    files = (repository / "tests" / "parity" / "golden").iterdir()
    assert sum(file.stat().st_size for file in files) < 8 * MEGABYTE
