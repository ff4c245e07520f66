"""Mistakes of users: one line of help, exit code 1, no half-written run."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clipin_jax.commands import main as cli
from tests.support import tiny_runs as runs

DATA = "{{'name': 'coco', 'folder': '{}', 'split': '{}'}}"


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with runs.on_one_device():
        yield


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A small valid folder in the layout of COCO captions."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for split, count in {"train": 128, "val": 8}.items():
        names = [f"{split}{number}.png" for number in range(count)]
        for name in names:
            pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name)
        content = {
            "images": [{"id": i, "file_name": name} for i, name in enumerate(names)],
            "annotations": [{"image_id": i, "caption": n} for i, n in enumerate(names)],
        }
        (folder / f"captions_{split}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def data(original, tmp_path) -> Path:
    """A copy of the folder, which tests break."""
    return shutil.copytree(original, tmp_path / "data")


def argv(data: Path, workdir: Path, *more: str) -> list[str]:
    overrides = [x for x in runs.TINY if "source" not in x]
    sources = [
        f"data.source={DATA.format(data, 'train')}",
        f"evals.retrieval.source={DATA.format(data, 'val')}",
    ]
    return [
        *("train", runs.CONFIG, "--workdir", str(workdir)),
        *(*overrides, *sources, *more),
    ]


@pytest.fixture
def refused(capfd, caplog) -> Any:
    """Returns a function that checks that a command fails, and returns its one line."""

    def refused(command: list[str]) -> str:
        capfd.readouterr()
        assert cli.main(command) == 1
        captured = capfd.readouterr()
        assert captured.out == ""
        lines = captured.err.splitlines()
        errors = [line for line in lines if line.startswith("clipin: error: ")]
        assert len(errors) == 1 and lines[-1] == errors[0], captured.err
        assert "Traceback" not in captured.err
        return errors[0]

    return refused


@pytest.mark.parametrize(
    "command, words",
    [
        (["quikstart"], ["no config 'quikstart'", "did you mean 'quickstart'"]),
        (["clip:clipn"], ["option 'clipn'", "did you mean 'clipin'"]),
        (["clip:variant"], ["'variant' needs a value"]),
        (["clip"], ["data.source.folder", "needs a value"]),
        (["quickstart", "optim.lerning_rate=1"], ["optim.learning_rate"]),
        (["quickstart", "total_steps=many"], ["total_steps", "'many'"]),
        (["quickstart:data=/nowhere"], ["/nowhere does not exist", "source.folder"]),
    ],
)
def test_config_and_options(refused, tmp_path, command, words):
    line = refused(["train", *command, "--workdir", str(tmp_path / "run")])
    assert all(word in line for word in words), line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "override, words",
    [
        ("batch_size=256", ["batch_size is 256", "only 128 records"]),
        ("batch_size=0", ["batch_size is 0", "at least 1"]),
        ("total_steps=0", ["total_steps is 0", "at least 1"]),
        ("max_nonfinite_steps=0", ["max_nonfinite_steps is 0", "at least 1"]),
        ("log_every_steps=-1", ["log_every_steps is -1", "at least 0"]),
        ("seed=-1", ["seed is -1"]),
        ("mesh.data=3", ["mesh.data = 3", "1 device"]),
        ("model.text.vocab_size=100", ["vocab_size is 100", "at least 49408"]),
        ("checkpoint.keep_last=0", ["keep_last is 0", "at least 1"]),
        ("checkpoint.best_mode=most", ["best_mode is 'most'", "'max' or 'min'"]),
        ("data.views=3", ["data.views is 3", "1, 2"]),
        ("data.second_text=other", ["did you mean 'another'"]),
        ("objectives.clipin.target_view=first", ["target_view", "'second'"]),
        ("model.image.patch_size=(5, 5)", ["image_size", "patch_size"]),
        ("model.image.num_heads=5", ["num_heads"]),
        ("model.image.activation=relu6", ["activation", "relu6"]),
        ("optim.learning_rate={'schedule': 'step'}", ["schedule is 'step'", "cosine"]),
        ("evals.retrieval.source.split=test", ["evals.retrieval", "captions_test"]),
        ("evals.retrieval={'type': 'retrival'}", ["evals.retrieval", "'retrieval'"]),
        ("sharding=(('x', 'replicate'),)", ["sharding rule"]),
        ("sharding=(('.*', 'split'),)", ["'split'", "replicate"]),
    ],
)
def test_values_that_make_no_sense(refused, original, tmp_path, override, words):
    line = refused(argv(original, tmp_path / "run", override))
    assert all(word in line for word in words), line
    assert not (tmp_path / "run").exists()


def without_images(data: Path) -> None:
    shutil.rmtree(data / "images")


def without_json(data: Path) -> None:
    (data / "captions_train.json").unlink()


def empty_json(data: Path) -> None:
    (data / "captions_train.json").write_text("")


def cut_json(data: Path) -> None:
    path = data / "captions_val.json"
    path.write_text(path.read_text()[:-50])


def without_captions(data: Path) -> None:
    path = data / "captions_train.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"annotations": []}))


def without_an_image(data: Path) -> None:
    (data / "images" / "val3.png").unlink()


def naming_an_absent_entry(data: Path) -> None:
    path = data / "captions_train.json"
    content = json.loads(path.read_text())
    content["annotations"].append({"image_id": 999, "caption": "a caption"})
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "spoil, words",
    [
        (shutil.rmtree, ["data folder", "does not exist"]),
        (without_images, ["image folder", "images does not exist"]),
        (without_json, ["captions_train.json cannot be read", "No such file"]),
        (empty_json, ["captions_train.json is not valid JSON"]),
        (cut_json, ["captions_val.json is not valid JSON", "line 1, column"]),
        (without_captions, ["captions_train.json", "'annotations' is empty"]),
        (without_an_image, ["1 of 8 image files", "val3.png"]),
        (naming_an_absent_entry, ["captions of 1 images", "image_id 999"]),
    ],
)
def test_data_folder(refused, data, tmp_path, spoil, words):
    spoil(data)
    line = refused(argv(data, tmp_path / "run"))
    assert all(word in line for word in words), line
    assert not (tmp_path / "run").exists()


def test_a_few_broken_images_are_replaced(data, tmp_path):
    (data / "images" / "train3.png").write_bytes(b"no picture")
    command = argv(data, tmp_path / "run", "data.max_bad_fraction=0.1")
    assert cli.main(command) == 0
    rows = runs.curves(tmp_path / "run")
    assert sum("train/loss" in row for row in rows) == runs.LAST


def test_many_broken_images_stop_the_run_until_they_are_mended(
    refused, original, data, tmp_path
):
    for path in (data / "images").glob("train*5.png"):
        path.write_bytes(path.read_bytes()[:40])
    more = "total_steps=8", "data.max_bad_fraction=0.05"
    line = refused(argv(data, tmp_path / "run", *more))
    for word in ("records cannot be used", "5.png", "data.max_bad_fraction 0.05"):
        assert word in line
    shutil.copytree(original / "images", data / "images", dirs_exist_ok=True)
    assert cli.main(argv(data, tmp_path / "run", *more)) == 0


def test_a_broken_image_in_the_evaluation(refused, data, tmp_path):
    (data / "images" / "val3.png").write_bytes(b"")
    line = refused(argv(data, tmp_path / "run"))
    assert "val3.png" in line and "cannot be decoded" in line


def test_the_run_folder_of_another_config(refused, original, tmp_path):
    command = argv(original, tmp_path / "run")
    assert cli.main([*command, "total_steps=1", "log_every_steps=0"]) == 0
    before = runs.contents(tmp_path / "run")
    line = refused([*command, "optim.weight_decay=0.5"])
    for word in ("another config", "total_steps: 1 there, 6 now", "optim.weight_decay"):
        assert word in line
    line = refused(["train", "quickstart", "--workdir", str(tmp_path / "run")])
    assert " more)" in line and len(line) < 1000
    assert runs.contents(tmp_path / "run") == before


def test_folders_that_are_no_run(refused, original, tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    (there / "letter.txt").write_text("dear user")
    (tmp_path / "file").write_text("")
    before = runs.contents(tmp_path)
    for workdir, word in [
        (there, "holds files but no config.json"),
        (tmp_path / "file", "File exists"),
        (tmp_path / "file" / "run", "Not a directory"),
    ]:
        line = refused(argv(original, workdir))
        assert word in line and str(workdir) in line and "--workdir" in line
    for verb in ("evaluate", "report"):
        for folder in (there, tmp_path / "file", tmp_path / "nowhere"):
            line = refused([verb, str(folder)])
            assert str(folder) in line and "config.json" in line
    assert runs.contents(tmp_path) == before


def test_a_damaged_config_of_a_run(refused, original, tmp_path):
    (tmp_path / "config.json").write_text('{"name": "cut')
    for command in (argv(original, tmp_path), ["evaluate", str(tmp_path)]):
        assert "config.json is damaged" in refused(command)
    assert "config.json cannot be read" in refused(["train", str(tmp_path)])
