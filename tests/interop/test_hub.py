"""Models by name; the hub itself is replaced, since tests have no network."""

import sys

import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.interop.hub import local_folder


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The library, with a function that serves a list of files or raises an error."""
    library = pytest.importorskip("huggingface_hub")
    calls = []

    def serve(files):
        def download(name, *, revision, allow_patterns, ignore_patterns):
            calls.append((name, revision, allow_patterns))
            if isinstance(files, Exception):
                raise files
            names = list(
                library.utils.filter_repo_objects(
                    files,
                    allow_patterns=allow_patterns,
                    ignore_patterns=ignore_patterns,
                )
            )
            for each in names:
                (tmp_path / each).touch()
            return str(tmp_path)

        monkeypatch.setattr(library, "snapshot_download", download)
        monkeypatch.setattr(library.constants, "HF_HUB_OFFLINE", False)
        return calls

    return serve


def test_what_is_here_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hf-hub:owner").mkdir()
    (tmp_path / "hf-hub:owner" / "name").write_text("weights")
    assert local_folder(str(tmp_path)) == tmp_path
    assert local_folder("hf-hub:owner/name").read_text() == "weights"


def test_safetensors_are_fetched_in_place_of_pickles(hub, tmp_path):
    calls = hub(
        ["model.safetensors", "config.json", "model.bin", "onnx/a.json", "a.h5"]
    )
    assert local_folder("hf-hub:owner/name@v1.0") == tmp_path
    assert {path.name for path in tmp_path.iterdir()} == {
        "model.safetensors",
        "config.json",
    }
    assert [call[:2] for call in calls] == [("owner/name", "v1.0")]


def test_pickles_are_fetched_where_there_is_nothing_else(hub, tmp_path):
    hub(["config.json", "pytorch_model.bin", "README.md"])
    local_folder("hf-hub:owner/name")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"config.json", "pytorch_model.bin"}


@pytest.mark.parametrize(
    "source, message",
    [
        ("nowhere", "no file or folder nowhere; write hf-hub:owner/name"),
        ("hf-hub:name", "no name of the hub: write hf-hub:owner/name"),
        ("hf-hub:owner/name@", "no name of the hub"),
        ("hf-hub:../../etc/passwd", "no name of the hub"),
        ("gs://bucket/model", "is a URL"),
    ],
)
def test_wrong_names(source, message):
    with pytest.raises(ClipinError, match=message):
        local_folder(source)


def test_without_a_network(hub):
    hub(OSError("Name or service not known\nand a long story"))
    with pytest.raises(ClipinError, match="cannot be fetched.*not known.*network") as e:
        local_folder("hf-hub:owner/name")
    assert "story" not in str(e.value)


def test_offline(hub, monkeypatch):
    hub(OSError("no cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        ClipinError, match="not all in the cache.*HF_HUB_OFFLINE is set"
    ):
        local_folder("hf-hub:owner/name")


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ClipinError, match=r"pip install 'clipin_jax\[hub\]'"):
        local_folder("hf-hub:owner/name")
