import json
from pathlib import Path

import fsspec
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.runs.checkpoint import Checkpoints
from clipin_jax.runs.checkpoint_tools.array_reader import read_arrays
from clipin_jax.runs.checkpoint_tools.average import average_checkpoints, read_sources
from clipin_jax.runs.checkpoint_tools.saved_checkpoint import open_checkpoint
from clipin_jax.runs.folder import load_folder, open_folder
from tests.support import tiny_runs
from tests.support.saved_runs import save_run, small_state
from tests.support.tiny import tiny_config


def read(name: str | Path) -> dict[str, np.ndarray]:
    checkpoint = open_checkpoint(str(name))
    arrays = read_arrays(checkpoint, checkpoint.arrays)
    return dict(zip(checkpoint.arrays, arrays, strict=True))


def test_the_mean_has_weights_and_no_optimizer(first, second, tmp_path):
    out = tmp_path / "soup"
    assert average_checkpoints(out, [f"{first}@2", second], [3, 1]) == 2
    soup, a, b = read(out), small_state(2), small_state(6)
    assert soup.keys() == a.keys() - {"opt_state/mu/kernel"}
    for name in soup.keys() - {"step"}:
        expected = 0.75 * a[name].astype(float) + 0.25 * b[name].astype(float)
        np.testing.assert_array_equal(soup[name], expected.astype(np.float32))
    assert soup["step"] == 2
    assert load_folder(out).seed == 0
    assert read_sources(out) == [
        f"{first}@2 (weight 0.75)", f"{second}@6 (weight 0.25)",
    ]  # fmt: skip
    assert read_sources(Path(first)) == []


def test_one_source_is_a_copy_bit_for_bit(tmp_path):
    odd = np.asarray(jnp.asarray([0.1, jnp.inf, -0.0], jnp.bfloat16))
    ids = np.array([2**31 - 1, -5], np.int32)
    state = small_state(1, odd=odd, ids=ids)
    save_run(tmp_path / "run", tiny_config(), {1: state})
    average_checkpoints(tmp_path / "copy", [str(tmp_path / "run")])
    for name, array in read(tmp_path / "copy").items():
        assert array.dtype == state[name].dtype
        assert array.tobytes() == state[name].tobytes()


def test_whole_numbers_are_those_of_the_first_source(tmp_path):
    states = {n: small_state(n, place=np.array([n, 9])) for n in (1, 2)}
    run = save_run(tmp_path / "run", tiny_config(), states)
    average_checkpoints(tmp_path / "soup", [f"{run}@2", f"{run}@1"])
    soup = read(tmp_path / "soup")
    assert soup["step"] == 2 and soup["params/place"].tolist() == [2, 9]


def test_training_cannot_go_on_from_a_mean(first, tmp_path):
    out = tmp_path / "soup"
    average_checkpoints(out, [first])
    before = tiny_runs.read_files(out)
    with pytest.raises(ClipinError, match="without the state of an optimizer"):
        open_folder(load_folder(out), out)
    assert tiny_runs.read_files(out) == before


def test_a_mean_may_be_a_source(first, tmp_path):
    average_checkpoints(tmp_path / "a", [first])
    average_checkpoints(tmp_path / "b", [str(tmp_path / "a"), first])
    expected = small_state(4)["params/kernel"]
    np.testing.assert_array_equal(read(tmp_path / "b")["params/kernel"], expected)


def test_it_is_written_to_a_url(first, second):
    url = "memory://average/soup"
    average_checkpoints(url, [f"{first}@2", second])
    soup = read(url)["params/kernel"]
    mean = (small_state(2)["params/kernel"] + small_state(6)["params/kernel"]) / 2
    np.testing.assert_allclose(soup, mean, rtol=1e-6)
    with pytest.raises(ClipinError, match=f"{url} exists"):
        average_checkpoints(url, [first])
    fsspec.filesystem("memory").rm("/average", recursive=True)


def test_wrong_arguments_write_nothing(first, second, tmp_path):
    out = tmp_path / "soup"
    wide = save_run(
        tmp_path / "wide", tiny_config(),
        {1: small_state(1, kernel=np.zeros((6, 5), np.float32))},
    )  # fmt: skip
    for sources, weights, message in (
        ([first, second], [1.0], "1 weights for 2 checkpoints"),
        ([first, second], [-1.0, 2.0], "a weight is -1"),
        ([first, second], [float("nan"), 2.0], "a weight is nan"),
        ([first, second], [0.0, 0.0], "all weights are 0"),
        ([], [], "at least one"),
        ([first, f"{second}@5"], [], "no checkpoint of step 5"),
        ([first, str(wide)], [], r"params/kernel is float32\[6, 4\] .*\[6, 5\]"),
    ):
        with pytest.raises(ClipinError, match=message):
            average_checkpoints(out, sources, weights)
        assert not out.exists()
    out.mkdir()
    with pytest.raises(ClipinError, match="soup exists"):
        average_checkpoints(out, [first])


def test_of_a_failure_nothing_is_left(first, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ClipinError("the disk is full")

    monkeypatch.setattr(Checkpoints, "save", fail)
    for out in (tmp_path / "soup", "memory://failure/soup"):
        with pytest.raises(ClipinError, match="full"):
            average_checkpoints(out, [first])
    assert not (tmp_path / "soup").exists()
    assert not fsspec.filesystem("memory").find("/failure")


def test_a_damaged_list_of_sources_is_one_line(tmp_path):
    for content in ("{", "[1]", json.dumps([{"run": "a"}])):
        (tmp_path / "sources.json").write_text(content)
        with pytest.raises(ClipinError, match=r"sources.json is damaged"):
            read_sources(tmp_path)
