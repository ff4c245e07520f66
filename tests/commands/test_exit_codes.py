"""What each kind of end is for a scheduler: docs/guides/running.md."""

import errno
from types import SimpleNamespace

import pytest

from clipin_jax import errors, storage
from clipin_jax.commands import main as cli
from clipin_jax.data.pipeline import TrainBatches
from clipin_jax.data.samples import SampleMaker
from clipin_jax.data.source import BadRecord
from clipin_jax.errors import ClipinError, RetryableError
from clipin_jax.interop.hub import local_folder
from clipin_jax.runs import checkpoint_checksums
from clipin_jax.runs.owner import own_folder
from tests.support import pair_folders, tiny_runs

URL = "memory://exit_codes/run"


def caused(error: Exception) -> ClipinError:
    """An error as one layer raises it around that of another."""
    try:
        try:
            raise ClipinError("cannot write") from error
        except ClipinError as inner:
            raise ClipinError("in the run, cannot write") from inner
    except ClipinError as outer:
        return outer


@pytest.mark.parametrize(
    "error, code",
    [
        (ClipinError("rate is 'x'"), errors.WRONG_INPUT),
        (RetryableError("a store is away"), errors.FAILED),
        (caused(RetryableError("a store is away")), errors.FAILED),
        (caused(OSError(errno.ENOSPC, "No space left on device")), errors.FAILED),
        (caused(OSError(errno.EIO, "Input/output error")), errors.FAILED),
        (caused(ConnectionResetError("reset by peer")), errors.FAILED),
        (caused(TimeoutError()), errors.FAILED),
        (caused(PermissionError(errno.EACCES, "denied")), errors.WRONG_INPUT),
        (caused(FileNotFoundError(errno.ENOENT, "no file")), errors.WRONG_INPUT),
        (caused(OSError("damaged")), errors.WRONG_INPUT),
        (caused(BadRecord("no image")), errors.WRONG_INPUT),
        (KeyError("optim"), None),  # a mistake of ours ends with a traceback
        (KeyboardInterrupt(), errors.INTERRUPTED),
    ],
)
def test_the_code_of_an_error(monkeypatch, error, code):
    def call(args):
        raise error

    args = SimpleNamespace(call=call)
    monkeypatch.setattr(cli, "parse", lambda argv: args)
    if code is None:
        with pytest.raises(type(error)):
            cli.main([])
    else:
        assert cli.main([]) == code


def test_wrong_options_end_with_the_code_of_argparse():
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "--wrong"])
    assert ended.value.code == 2


def test_a_store(monkeypatch):
    with pytest.raises(ClipinError, match="scheme|rotocol") as unknown:
        storage.Store("nothing://bucket").names()
    assert not unknown.value.is_retryable
    store = storage.Store(URL)
    monkeypatch.setattr(store._store, "find", raise_(RuntimeError("HTTP 503")))
    with pytest.raises(RetryableError, match="cannot be reached: .* HTTP 503") as away:
        store.names()
    assert away.value.is_retryable
    monkeypatch.setattr(type(store._store), "cat_file", raise_(OSError("HTTP 503")))
    with pytest.raises(OSError, match="HTTP 503") as unread:
        storage.read(URL)
    assert caused(unread.value).is_retryable


def raise_(error: Exception):
    """Returns a function that raises."""

    def function(*args, **kwargs):
        raise error

    return function


def test_the_hub(monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "snapshot_download", raise_(OSError("no route")))
    with pytest.raises(RetryableError, match="check the network"):
        local_folder("hf-hub:owner/name")


def test_a_folder_in_use(tmp_path):
    with own_folder(tmp_path), pytest.raises(RetryableError, match="is in use"):
        with own_folder(tmp_path):
            pass


def test_a_checkpoint_that_cannot_be_written(tmp_path, capfd, monkeypatch):
    full = raise_(OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr(checkpoint_checksums, "write_checksums", full)
    with tiny_runs.on_one_device():
        command = ["train", tiny_runs.CONFIG, *tiny_runs.TINY, "evals={}"]
        assert cli.main([*command, "--workdir", str(tmp_path / "run")]) == errors.FAILED
    assert "the disk is full" in capfd.readouterr().err


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_bad_records(tmp_path, monkeypatch, number):
    """A disk may answer later; what is wrong stays wrong."""
    folder = pair_folders.pair_folder(tmp_path / "data", [["a star"]] * 8)
    config = pair_folders.pair_config(folder)
    monkeypatch.setattr(
        SampleMaker, "find_problem", lambda *_: OSError(number, "unreadable")
    )
    with pytest.raises(ClipinError, match="none of the first 8 records") as none:
        TrainBatches(config.data, seed=0, batch_size=4)
    assert none.value.is_retryable == (number == errno.EIO)
