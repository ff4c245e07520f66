import shutil
from pathlib import Path

import fsspec
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax import storage
from clipin_jax.errors import ClipinError
from clipin_jax.runs.checkpoint_tools.array_reader import read_arrays
from clipin_jax.runs.checkpoint_tools.saved_checkpoint import (
    ArrayInfo,
    check_same_model,
    open_checkpoint,
    split_name,
)
from clipin_jax.runs.checkpoint_tools.summary import Part, count_parts
from clipin_jax.runs.folder import open_folder
from tests.support import tiny_runs
from tests.support.saved_runs import save_run, small_state
from tests.support.tiny import tiny_config


def test_a_name_has_a_run_and_perhaps_a_step(tmp_path):
    assert split_name("runs/a") == ("runs/a", None)
    assert split_name("runs/a@20") == ("runs/a", 20)
    assert split_name("gs://bucket/a@20") == ("gs://bucket/a", 20)
    assert split_name("gs://me@bucket/a") == ("gs://me@bucket/a", None)
    assert split_name("gs://bucket/a@best") == ("gs://bucket/a@best", None)
    (tmp_path / "a@20").mkdir()
    assert split_name(f"{tmp_path}/a@20") == (f"{tmp_path}/a@20", None)
    assert split_name(f"{tmp_path}/a@20@4") == (f"{tmp_path}/a@20", 4)
    for wrong in ("runs/a@best", "runs/a@", "@3", "runs/a@-1"):
        with pytest.raises(ClipinError, match="STEP is a whole number"):
            split_name(wrong)


def test_what_is_there_is_known_without_the_arrays(first, tmp_path):
    folder = shutil.copytree(first, tmp_path / "run")
    for path in folder.glob("checkpoints/*/state"):
        shutil.rmtree(path)
    checkpoint = open_checkpoint(str(folder), with_arrays=False)
    assert (checkpoint.step, checkpoint.steps) == (4, (2, 4))
    assert checkpoint.label == f"{folder}@4"
    assert checkpoint.config.batch_size == 16
    kernel = checkpoint.arrays["params/kernel"]
    assert kernel == ArrayInfo("float32", (6, 4)) and kernel.num_bytes == 96
    assert str(kernel) == "float32[6, 4]"
    assert checkpoint.arrays["step"] == ArrayInfo("int32", ())
    assert count_parts(checkpoint.arrays) == {
        "counters": Part(1, 1, 4),
        "params": Part(1, 24, 96),
        "collections": Part(1, 4, 16),
        "target_params": Part(1, 24, 96),
        "opt_state": Part(1, 24, 96),
    }
    with pytest.raises(ClipinError, match="damaged checkpoint .*state"):
        open_checkpoint(str(folder))


def test_arrays_are_read_in_the_order_of_the_names(first):
    checkpoint, state = open_checkpoint(f"{first}@2"), small_state(2)
    names = list(reversed(state))
    for name, array in zip(names, read_arrays(checkpoint, names), strict=True):
        assert array.dtype == state[name].dtype
        np.testing.assert_array_equal(array, state[name])


def test_large_arrays_are_read_one_by_one(first, monkeypatch):
    monkeypatch.setattr("clipin_jax.runs.checkpoint_tools.array_reader._GROUP_BYTES", 9)
    checkpoint, state = open_checkpoint(first), small_state(4)
    for name, array in zip(state, read_arrays(checkpoint, state), strict=True):
        np.testing.assert_array_equal(array, state[name])


def test_half_precision_is_read_as_it_is(tmp_path):
    half = np.asarray(jnp.arange(3, dtype=jnp.bfloat16))
    save_run(tmp_path / "run", tiny_config(), {1: small_state(1, half=half)})
    checkpoint = open_checkpoint(str(tmp_path / "run"))
    assert checkpoint.arrays["params/half"].num_bytes == 6
    [array] = read_arrays(checkpoint, ["params/half"])
    assert array.dtype == half.dtype and array.tobytes() == half.tobytes()


def test_the_newest_damaged_one_is_left_out(first, tmp_path, caplog):
    folder = shutil.copytree(first, tmp_path / "run")
    damaged = next((folder / "checkpoints" / "4" / "state" / "d").iterdir())
    damaged.write_bytes(b"")
    assert open_checkpoint(str(folder)).step == 2
    assert "checkpoints/4: state/d/" in caplog.text and "using step 2" in caplog.text
    with pytest.raises(ClipinError, match="was changed or cut"):
        open_checkpoint(f"{folder}@4")


def test_wrong_names_are_one_line(first, tmp_path):
    with pytest.raises(ClipinError, match="no checkpoint of step 3 .*: there are 2, 4"):
        open_checkpoint(f"{first}@3")
    with pytest.raises(ClipinError, match="is no run folder"):
        open_checkpoint(str(tmp_path))
    open_folder(tiny_config(), tmp_path / "new")
    with pytest.raises(ClipinError, match="has no checkpoint yet"):
        open_checkpoint(str(tmp_path / "new"))


def test_a_url_is_read_as_a_folder_is(first):
    url = "memory://saved_checkpoint/run"
    for name, content in tiny_runs.read_files(Path(first)).items():
        storage.write(f"{url}/{name}", content)
    checkpoint = open_checkpoint(f"{url}@2")
    assert checkpoint.label == f"{url}@2" and checkpoint.steps == (2, 4)
    [array] = read_arrays(checkpoint, ["params/kernel"])
    np.testing.assert_array_equal(array, small_state(2)["params/kernel"])
    with pytest.raises(ClipinError, match=f"no checkpoint of step 3 in {url}"):
        open_checkpoint(f"{url}@3")
    fsspec.filesystem("memory").rm("/saved_checkpoint", recursive=True)


def test_arrays_are_chosen_by_a_pattern(first):
    checkpoint = open_checkpoint(first, with_arrays=False)
    assert list(checkpoint.only("^params/").arrays) == ["params/kernel"]
    assert checkpoint.only("").arrays == checkpoint.arrays
    for wrong in ("bias", "("):
        with pytest.raises(ClipinError, match="--pattern on .*first@4"):
            checkpoint.only(wrong)


def test_the_same_model_is_told_by_config_and_arrays(first, second, tmp_path):
    def check(state: dict, *overrides: str) -> None:
        folder = save_run(tmp_path / "other", tiny_config(*overrides), {1: state})
        try:
            check_same_model(open_checkpoint(first), open_checkpoint(str(folder)))
        finally:
            shutil.rmtree(folder)

    check_same_model(open_checkpoint(first), open_checkpoint(second))
    # The optimizer is no part of the model, nor is how it is computed.
    check(small_state(1) | {"opt_state/mu/kernel": np.zeros(1)}, "model.dtype=bfloat16")
    with pytest.raises(ClipinError, match="model.image.activation is 'quick_gelu' in"):
        check(small_state(1), "model.image.activation=gelu")
    with pytest.raises(ClipinError, match="data.tokenizer.pad_with_end is False"):
        check(small_state(1), "data.tokenizer.pad_with_end=true")
    with pytest.raises(ClipinError, match=r"params/b is absent in .* float64\[2\]"):
        check(small_state(1, b=np.zeros(2)))
