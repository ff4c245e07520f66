"""Files of a run folder that were edited, cut or overwritten: an error in one line."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipin_jax.config import load_config
from clipin_jax.errors import ClipinError
from clipin_jax.report import write_report
from clipin_jax.runs import checkpoint_checksums as checksums
from clipin_jax.runs.folder import is_finished
from clipin_jax.runs.owner import FILE, own_folder
from tests.support import tiny_runs
from tests.support.damage import places

READ = ("config.json", "metrics.jsonl", "figures.json", "environment.json", "size.json",
        "eval/6.json", "examples/pairs.json", "examples/retrievals_retrieval.json",
        "examples/captions_retrieval.json",
        "checkpoints/6/manifest.json", "checkpoints/6/scores.json", FILE)  # fmt: skip
JUNK = st.sampled_from(
    [None, True, -1, 1e308, 10**30, "x", "é\0", [], {}, [1], {"a": 1}, [[1, 2], [3]]]
)
CONTENTS = {
    "metrics.jsonl": {"step": 6, "time": 1.0, "train/loss": 0.5},
    "figures.json": {
        "retrieval/R@1": {"format": "{:.1%}", "better": "higher", "headline": True,
                          "trials": 100}
    },
    "size.json": {"parameters": 5, "trained": 5},
    "environment.json": {"jax": "0"},
    "eval/6.json": {"step": 6, "scores": {"retrieval/R@1": 0.5}, "figures": {}},
    "examples/pairs.json": [[{"view": "view1", "file": "a.png", "caption": "a dog"}]],
    "examples/retrievals_retrieval.json": {
        "best": [{"caption": "a dog", "image": 1, "rank": 1, "score": 0.5,
                  "retrieved": [[1, 0.5], [2, 0.4]]}]
    },
    "examples/captions_retrieval.json": {
        "decoding": {"strategy": "greedy"},
        "captions": [{"image": 1, "caption": "a dog", "references": ["dogs"]}],
    },
    "checkpoints/6/scores.json": {"retrieval/R@1": 0.5},
    FILE: dict(process=1, host="there", namespace="n", started="1", since="then"),
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run folder with every file that is read again."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    tiny_runs.write_run(tiny_runs.tiny_run(), folder)
    (folder / "DONE").touch()
    for name, content in CONTENTS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    return folder


def damaged(data: st.DataObject, content: bytes) -> bytes:
    """Returns the content cut, with other bytes, or with another value somewhere."""
    kind = data.draw(st.sampled_from(("cut", "bytes", "value", "whole")))
    if kind == "cut":
        return content[: data.draw(st.integers(0, len(content)))]
    if kind == "bytes":
        changed = bytearray(content)
        changed[data.draw(st.integers(0, len(content) - 1))] = data.draw(
            st.integers(0, 255)
        )
        return bytes(changed)
    if kind == "whole":
        return json.dumps(data.draw(JUNK)).encode()
    tree = json.loads(content)
    container, key = data.draw(st.sampled_from(places(tree)))
    container[key] = data.draw(JUNK)
    return json.dumps(tree).encode()


def use(folder: Path) -> list[str]:
    """Reads the folder in every way; returns the errors that users see."""
    errors = []

    def own() -> None:
        with own_folder(folder, stale=0.01):
            pass

    def verify() -> None:
        try:
            checksums.read_verified_facts(folder / "checkpoints" / "6")
        except checksums.DamageError as error:
            raise ClipinError(str(error)) from error

    for read in (
        lambda: load_config(folder),
        lambda: is_finished(tiny_runs.tiny_run(), folder, may_go_on=True),
        lambda: write_report(folder, folder / "page.html"),
        lambda: checksums.read_scores(folder / "checkpoints" / "6"),
        verify,
        own,
    ):
        try:
            read()
        except ClipinError as error:
            errors.append(str(error))
    return errors


@pytest.mark.parametrize("name", READ)
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_a_damaged_file_is_one_line_or_left_out(run, name, data):
    path = run / name
    # A read takes the owner's file away.
    content = json.dumps(CONTENTS[FILE]).encode() if name == FILE else path.read_bytes()
    try:
        path.write_bytes(damaged(data, content))
        for error in use(run):
            assert "\n" not in error and len(error) < 800, error
    finally:
        path.write_bytes(content)


def test_the_folder_is_read_without_an_error(run):
    assert use(run) == []
    (run / FILE).write_text(json.dumps(CONTENTS[FILE]))
