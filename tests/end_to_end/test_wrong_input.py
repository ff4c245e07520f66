"""Mistakes of users give one line of help, exit code 78, and no half-written run."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clipin_jax.commands.main import main
from clipin_jax.errors import FAILED, WRONG_INPUT
from clipin_jax.interop.weights import write_safetensors
from tests.support import tiny_runs
from tests.support.torch_files import Call, Global, write_torch

DATA = "{{'name': 'coco', 'folder': '{}', 'split': '{}'}}"


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with tiny_runs.on_one_device():
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
    """A copy of the folder, for tests that damage it."""
    return shutil.copytree(original, tmp_path / "data")


def argv(data: Path, workdir: Path, *more: str) -> list[str]:
    overrides = [x for x in tiny_runs.TINY if "source" not in x]
    sources = [
        f"data.source={DATA.format(data, 'train')}",
        f"evals.retrieval.source={DATA.format(data, 'val')}",
    ]
    return [
        *("train", tiny_runs.CONFIG, "--workdir", str(workdir)),
        *(*overrides, *sources, *more),
    ]


@pytest.fixture
def refused(capfd, caplog) -> Any:
    """Returns a function that checks that a command fails, and returns its one line."""

    def refused(command: list[str], code: int = WRONG_INPUT) -> str:
        capfd.readouterr()
        assert main(command) == code
        captured = capfd.readouterr()
        assert captured.out == ""
        lines = captured.err.splitlines()
        errors = [line for line in lines if line.startswith("clipin: error: ")]
        assert len(errors) == 1 and lines[-1] == errors[0], captured.err
        assert "Traceback" not in captured.err
        return errors[0]

    return refused


@pytest.mark.parametrize(
    "command, expected",
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
def test_config_and_options(refused, tmp_path, command, expected):
    line = refused(["train", *command, "--workdir", str(tmp_path / "run")])
    assert all(part in line for part in expected), line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "override, expected",
    [
        ("batch_size=256", ["batch_size is 256", "only 128 records"]),
        ("batch_size=0", ["batch_size is 0", "at least 1"]),
        ("total_steps=0", ["total_steps is 0", "at least 1"]),
        ("max_nonfinite_steps=0", ["max_nonfinite_steps is 0", "at least 1"]),
        ("log_every_steps=-1", ["log_every_steps is -1", "at least 0"]),
        ("seed=-1", ["seed is -1"]),
        ("batch_size=1", ["batch_size is 1", "compares the pairs"]),
        ("model.dtype=bf16", ["model.dtype is 'bf16'", "'bfloat16'"]),
        ("model.dtype=float16", ["model.dtype is 'float16'", "CPU"]),
        ("optim.no_decay=('bias(',)", ["optim.no_decay", "regular expression"]),
        ("optim.learning_rate.peak=-1", ["optim.learning_rate is -", "at step 0"]),
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
        ("sharding.rules=(('.*', 'split'),)", ["sharding.rules", "'split'", "fsdp"]),
    ],
)
def test_invalid_values(refused, original, tmp_path, override, expected):
    line = refused(argv(original, tmp_path / "run", override))
    assert all(part in line for part in expected), line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "line, expected",
    [
        ("config.optim.clipnorm = 1.0", ["optim.clipnorm", "'clip_norm'"]),
        ("config.data.augment.flipp = 0.5", ["'data.augment.flip'"]),
        ("config.checkpoint.every_step = 5", ["checkpoint.every_step", "every_steps"]),
        ("config.mesh.fdsp = 1", ["mesh.fdsp", "'mesh.fsdp'"]),
        ("config.log.tensorbord = True", ["log.tensorbord", "'tensorboard'"]),
        ("config.bach_size = 8", ["bach_size", "'batch_size'"]),
        ("config.model.image.widht = 8", ["model.image.widht", "'width'"]),
        ("config.evals.retrieval.sorce = {}", ["evals.retrieval.sorce"]),
    ],
)
def test_keys_of_a_page_that_do_not_exist(refused, tmp_path, line, expected):
    page = tmp_path / "page.py"
    page.write_text(
        "from clipin_jax.config import load_config\n\n"
        "def get_config(arg):\n"
        "    config = load_config('quickstart:runlocal').unlock()\n"
        f"    {line}\n"
        "    return config\n"
    )
    message = refused(["train", str(page), "--workdir", str(tmp_path / "run")])
    assert all(part in message for part in expected), message
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


def with_unknown_image_id(data: Path) -> None:
    path = data / "captions_train.json"
    content = json.loads(path.read_text())
    content["annotations"].append({"image_id": 999, "caption": "a caption"})
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "damage, expected",
    [
        (shutil.rmtree, ["data folder", "does not exist"]),
        (without_images, ["image folder", "images does not exist"]),
        (without_json, ["captions_train.json cannot be read", "No such file"]),
        (empty_json, ["captions_train.json is not valid JSON"]),
        (cut_json, ["captions_val.json is not valid JSON", "line 1, column"]),
        (without_captions, ["captions_train.json", "'annotations' is empty"]),
        (with_unknown_image_id, ["captions of 1 images", "image_id 999"]),
    ],
)
def test_data_folder(refused, data, tmp_path, damage, expected):
    damage(data)
    line = refused(argv(data, tmp_path / "run"))
    assert all(part in line for part in expected), line
    assert not (tmp_path / "run").exists()


def test_few_broken_images_are_replaced(data, tmp_path):
    (data / "images" / "train3.png").write_bytes(b"not an image")
    command = argv(data, tmp_path / "run", "data.max_bad_fraction=0.1")
    assert main(command) == 0
    rows = tiny_runs.metric_rows(tmp_path / "run")
    assert sum("train/loss" in row for row in rows) == tiny_runs.LAST


def test_many_broken_images_stop_the_run_until_they_are_repaired(
    refused, original, data, tmp_path
):
    for path in (data / "images").glob("train*5.png"):
        path.write_bytes(path.read_bytes()[:40])
    more = "total_steps=8", "data.max_bad_fraction=0.05"
    line = refused(argv(data, tmp_path / "run", *more))
    for part in ("records cannot be used", "5.png", "data.max_bad_fraction 0.05"):
        assert part in line
    shutil.copytree(original / "images", data / "images", dirs_exist_ok=True)
    assert main(argv(data, tmp_path / "run", *more)) == 0


def test_broken_image_in_evaluation(refused, data, tmp_path):
    (data / "images" / "val3.png").write_bytes(b"")
    line = refused(argv(data, tmp_path / "run"))
    assert "val3.png" in line and "cannot be decoded" in line


def test_missing_image_in_evaluation(refused, data, tmp_path):
    (data / "images" / "val3.png").unlink()
    line = refused(argv(data, tmp_path / "run"))
    assert "val3.png" in line and "cannot be" in line


def test_run_folder_of_another_config(refused, original, tmp_path):
    command = argv(original, tmp_path / "run")
    assert main([*command, "total_steps=1", "log_every_steps=0"]) == 0
    before = tiny_runs.read_files(tmp_path / "run")
    line = refused([*command, "optim.weight_decay=0.5"])
    for part in ("another config", "total_steps: 1 there, 6 now", "optim.weight_decay"):
        assert part in line
    line = refused(["train", "quickstart", "--workdir", str(tmp_path / "run")])
    assert " more)" in line and len(line) < 1000
    assert tiny_runs.read_files(tmp_path / "run") == before


def test_folders_without_a_run(refused, original, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear user")
    (tmp_path / "file").write_text("")
    before = tiny_runs.read_files(tmp_path)
    for workdir, message in [
        (folder, "holds files but no config.json"),
        (tmp_path / "file", "File exists"),
        (tmp_path / "file" / "run", "Not a directory"),
    ]:
        line = refused(argv(original, workdir))
        assert message in line and str(workdir) in line and "--workdir" in line
    for verb in ("evaluate", "report"):
        for path in (folder, tmp_path / "file", tmp_path / "nowhere"):
            line = refused([verb, str(path)])
            # A file may be the weights of another library.
            is_weights = verb == "evaluate" and path.is_file()
            expected = "is no run" if is_weights else "config.json"
            assert str(path) in line and expected in line
    assert tiny_runs.read_files(tmp_path) == before


def test_damaged_config_of_a_run(refused, original, tmp_path):
    (tmp_path / "config.json").write_text('{"name": "cut')
    for command in (argv(original, tmp_path), ["evaluate", str(tmp_path)]):
        assert "config.json is damaged" in refused(command)
    assert "config.json cannot be read" in refused(["train", str(tmp_path)])


def model_folder(folder: Path, **content: Any) -> Path:
    """Writes a folder of transformers with one array."""
    write_safetensors(folder / "model.safetensors", {"scale": np.ones(8, np.float32)})
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def without_model(folder: Path) -> None:
    (folder / "letter.txt").write_text("dear user")


def cut_weights(folder: Path) -> None:
    path = model_folder(folder, model_type="clip") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])


def with_code(folder: Path) -> None:
    call = Call(Global("os", "mkdir"), (str(folder / "made"),))
    write_torch(folder / "model.bin", {"visual.class_embedding": call})


def of_another_width(folder: Path) -> None:
    model_folder(folder, model_type="clip", vision_config=dict(hidden_size=48))


def of_another_vocabulary(folder: Path) -> None:
    model_folder(folder, model_type="bert", vocab_size=60)
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")


@pytest.mark.parametrize(
    "write, parts, expected",
    [
        (
            without_model,
            "all",
            ["is no run folder", "nor", "Hugging Face transformers"],
        ),
        (cut_weights, "all", ["model.safetensors is damaged", "fetch it again"]),
        (with_code, "all", ["model.bin wants to call os.mkdir", "refused"]),
        (of_another_width, "image", ["width is 32, there 48", "image.width=48"]),
        (of_another_vocabulary, "text", ["vocab.txt", "data.tokenizer.vocabulary="]),
    ],
)
def test_weights_to_start_from(refused, original, tmp_path, write, parts, expected):
    folder = tmp_path / "model"
    folder.mkdir()
    write(folder)
    start = f"init_from={folder}", f"init_parts=('{parts}',)"
    before = tiny_runs.read_files(folder)
    line = refused(argv(original, tmp_path / "run", *start))
    assert all(part in line for part in expected), line
    assert tiny_runs.read_files(folder) == before and not (folder / "made").exists()


def test_a_model_of_the_hub_without_a_network(refused, original, tmp_path, monkeypatch):
    def no_network(*names, **options):
        raise OSError("Name or service not known")

    library = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(library, "snapshot_download", no_network)
    start = "init_from=hf-hub:owner/name"
    line = refused(argv(original, tmp_path / "run", start), FAILED)  # may be back later
    assert "hf-hub:owner/name cannot be fetched" in line and "the network" in line
