"""Golden files: both forms hold the same arrays; drawn numbers; missing files."""

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
from tests.parity.make_sketches import sketched, write_sketched
from tests.parity.normal_draws import Draw

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


def test_normal_numbers_are_those_of_pytorch():
    numbers = Draw(0.0, 1.0, 0, 0).numbers(16)
    assert numbers[:2].tolist() == [-2.3104116916656494, -0.3732508718967438]
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(7)
    start = 0
    for size in (16, 40, 100_000):
        drawn = torch.randn(size, generator=generator, dtype=torch.float64)
        numbers = Draw(1.0, 0.1, 7, start).numbers(size)
        assert (numbers == (1 + 0.1 * drawn).float().double().numpy()).all()
        start += 2 * (size + 16 * (size % 16 > 0))


def test_drawn_arrays_become_seeds(tmp_path):
    draws = Draw(0.0, 1.0, 5, 0), Draw(0.0, 0.25, 6, 2000), Draw(0.0, 1.0, 80, 12)
    image, matrix, other = (draw.numbers(3200) for draw in draws)
    arrays = {
        "meta": np.array(json.dumps({"config": {"seed": 5}})),
        "inputs/images": image.reshape(2, 1600),
        "params/matrix": matrix.reshape(200, 16),
        "inputs/other": other,
        "params/changed": np.where(np.arange(3200) == 1234, 0.0, image),
    }
    write_sketched(tmp_path / "a.npz", arrays, [80])
    assert (tmp_path / "a.npz").stat().st_size < 16_000  # of one array
    kept = read_arrays(tmp_path / "a.npz")
    for name, value in arrays.items():
        assert kept[name].shape == value.shape, name
        assert kept[name].tobytes() == value.tobytes(), name


def test_other_normal_numbers_are_an_error(tmp_path, monkeypatch):
    arrays = {"meta": np.array("{}"), "inputs/a": Draw(0.0, 1.0, 5, 0).numbers(64)}
    write_sketched(tmp_path / "a.npz", arrays, [5])
    monkeypatch.setattr(Draw, "numbers", lambda self, size: np.zeros(size))
    with pytest.raises(AssertionError, match="draws other normal numbers"):
        read_arrays(tmp_path / "a.npz")


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
    assert sum(file.stat().st_size for file in files) < 3.5 * MEGABYTE
