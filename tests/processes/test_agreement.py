import pytest

from clipin_jax.errors import ClipinError, RetryableError
from clipin_jax.processes import agreement
from clipin_jax.processes.device_use import describe_processes, idle_gpus
from clipin_jax.processes.group import Group


def test_equal_facts(together):
    facts = {"jax": "1", "config seed": "0"}
    assert together(3, lambda g: agreement.check_same(g, facts, "")) == [None] * 3


@pytest.mark.parametrize("odd", [0, 1, 2])
def test_the_process_that_differs_is_named(together, odd):
    def check(group):
        facts = {"jax": "1", "config seed": str(int(group.index == odd))}
        agreement.check_same(group, facts | {"same": "x"}, "read its config")

    errors = together(3, check)
    other = 1 if odd == 0 else 0
    expected = (
        f"process {odd} (host n{odd // 2}) differs from process {other} (host n0): "
        "config seed is 1, not 0: start all"
    )
    for error in errors:
        assert isinstance(error, ClipinError) and not error.is_retryable
        assert str(error).startswith(expected)


def test_of_two_the_second_differs(together):
    errors = together(2, lambda g: agreement.check_same(g, {"a": f"{g.index}"}, ""))
    assert "process 1 (host n0) differs from process 0 (host n0): a is 1, not 0" in str(
        errors[0]
    )


def test_a_fact_that_is_absent_and_many_facts(together):
    def check(group):
        facts = {f"config {k}": f"{group.index}" for k in "abcde"[: 5 - group.index]}
        agreement.check_same(group, facts, "")

    text = str(together(2, check)[0])
    assert "config a is 1, not 0; config b is 1, not 0; config c is 1" in text
    assert "; and 2 more: start all" in text


def test_a_process_that_does_not_come(store):
    group = Group(0, 2, store)
    with pytest.raises(RetryableError, match="process 1 did not open its data within"):
        group.gather("facts", 1, "open its data", seconds=0.1)


def test_a_shared_folder(together, tmp_path, monkeypatch):
    monkeypatch.setattr(agreement, "_SEEN_SECONDS", 0.3)
    folder = tmp_path / "runs" / "first"
    assert together(2, lambda g: agreement.check_shared(g, folder)) == [None, None]
    assert not folder.exists() and folder.parent.exists()
    folder.mkdir()
    (folder / "config.json").touch()
    assert together(2, lambda g: agreement.check_shared(g, folder)) == [None, None]
    assert [path.name for path in folder.iterdir()] == ["config.json"]


def test_a_folder_that_is_not_shared(together, tmp_path, monkeypatch):
    monkeypatch.setattr(agreement, "_SEEN_SECONDS", 0.3)
    errors = together(
        2, lambda g: agreement.check_shared(g, tmp_path / f"host{g.index}" / "run")
    )
    for error in errors:
        assert "process 1 (host n0) does not see what process 0 (host n0) wri" in str(
            error
        )
    assert not (tmp_path / "host0" / "run").exists()


def test_a_folder_that_cannot_be_written(together, tmp_path):
    (tmp_path / "file").touch()
    errors = together(2, lambda g: agreement.check_shared(g, tmp_path / "file" / "x"))
    assert all("/file/x: Not a directory; choose another" in str(e) for e in errors)


class Gpu:
    platform = "gpu"


def test_gpus_that_nobody_uses(together, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    # n0 has processes 0 and 1, n1 has process 2 alone.
    lines = together(3, lambda g: idle_gpus(g, [Gpu()] * (2 if g.index < 2 else 1)))
    assert set(lines) == {
        "1 of the 4 GPUs of n1 are used: start one task for each (srun "
        "--ntasks-per-node=4), or give all to one with JAX_LOCAL_DEVICE_IDS=0,1,2,3"
    }
    assert together(2, lambda g: idle_gpus(g, [Gpu()] * 2)) == ["", ""]
    assert "1 of the 4 GPUs" in idle_gpus(None, [Gpu()])
    assert together(3, describe_processes) == ["processes 3 on 2 hosts"] * 3
