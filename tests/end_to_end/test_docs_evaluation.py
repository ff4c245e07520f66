"""Examples, commands and tables of the page on evaluation, run on small data."""

import ast
import inspect
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from clipin_jax.commands.main import main
from clipin_jax.config import load_config
from clipin_jax.data.class_names import class_names
from clipin_jax.errors import DONE
from clipin_jax.evaluators import EVALUATORS, make_evaluators
from clipin_jax.evaluators.datasets.data_folder import DataFolder
from clipin_jax.inference.build import open_run
from clipin_jax.training.evaluation_suites import load_suite
from tests.conftest import REPOSITORY
from tests.support import tiny_runs

PAGE = (REPOSITORY / "docs" / "guides" / "evaluation.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", PAGE, re.MULTILINE))
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
*EXAMPLES, SUITE = BLOCKS
# A model that compares, writes and explains.
CONFIG = "coca:runlocal"
SMALL = (
    "total_steps=1",
    "model.image.depth=1",
    "model.image.width=16",
    "model.text.width=16",
    "evals.retrieval.source.length=32",
    "evals.captioning=None",
)
IMAGES = 8  # of a split


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with tiny_runs.on_one_device():
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with the run and the data that the page speaks of."""
    folder = tmp_path_factory.mktemp("page")
    tiny_runs.write_run(load_config(CONFIG, SMALL), folder / "runs" / "mine", step=1)
    write_data(folder / "data")
    return folder


def write_data(data: Path) -> None:
    """Writes what the examples read, and a data set for each row of the layouts."""
    cifar, pets = class_names("cifar100"), class_names("pets")
    write_classes(data / "cifar100" / "test", cifar)
    write_captions(data / "coco")
    write_arrays(data / "pathmnist.npz", 9)
    write_arrays(data / "retinamnist.npz", 5)
    write_voc(data / "VOCdevkit" / "VOC2007")
    names = ("none", "mild", "moderate", "severe", "proliferative")
    grades = [f"{write_image(data, n)},{names[n % 5]}" for n in range(10)]
    write_lines(data / "fundus.csv", ["filepath,grade", *grades])
    write_texts(data, "sts", "mood")
    write_sugarcrepe(data / "sugarcrepe", data / "val2017")
    # The folder of a suite.
    write_classes(data / "classification" / "pets" / "test", pets)
    write_classes(data / "classification" / "pets" / "train", pets)
    write_classes(data / "classification" / "cifar10" / "val", class_names("cifar10"))
    write_captions(data / "captions" / "zoo")
    (data / "npz").mkdir()
    shutil.copy(data / "retinamnist.npz", data / "npz" / "retinamnist.npz")
    write_texts(data / "text", "alike", "feelings")
    inside = data / "compositionality" / "sugarcrepe"
    write_sugarcrepe(inside, inside / "images")


def write_image(folder: Path, number: int, name: str = "") -> str:
    """Writes an image; returns its name."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(256, size=(20, 24, 3))
    name = name or f"{number}.png"
    Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
    return name


def write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def write_classes(folder: Path, names: Any) -> None:
    for number, name in enumerate(names):
        write_image(folder / name.replace("/", "_"), number)


def write_captions(folder: Path) -> None:
    """Writes images with captions, as Karpathy's splits and as COCO's files."""
    names = [write_image(folder / "images", number) for number in range(IMAGES)]
    entries = [
        dict(
            filepath="images",
            filename=name,
            split="test",
            sentences=[{"raw": f"image {name} {k}"}] * 2,
        )
        for k, name in enumerate(names)
    ]
    (folder / "dataset_coco.json").write_text(json.dumps({"images": entries}))
    images = [dict(id=k, file_name=name) for k, name in enumerate(names)]
    captions = [dict(image_id=k, caption=f"number {k}") for k in range(IMAGES)]
    content = json.dumps(dict(images=images, annotations=captions))
    (folder / "captions_test.json").write_text(content)


def write_arrays(path: Path, classes: int) -> None:
    arrays = {}
    for seed, split in enumerate(("train", "val", "test")):
        rng = np.random.default_rng(seed)
        shape = (3 * classes, 20, 20, 3)
        arrays[f"{split}_images"] = rng.integers(256, size=shape, dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(3 * classes)[:, None] % classes
    np.savez(path, **arrays)


def write_voc(folder: Path) -> None:
    splits: dict[str, list[str]] = dict(train=[], val=[], trainval=[], test=[])
    for number in range(24):
        write_image(folder / "JPEGImages", number, f"{number}.jpg")
        box = "<xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"
        name = ("cat", "dog")[number % 2]
        content = f"<name>{name}</name><difficult>0</difficult><bndbox>{box}</bndbox>"
        path = folder / "Annotations" / f"{number}.xml"
        write_lines(path, [f"<annotation><object>{content}</object></annotation>"])
        split = ("train", "val", "test")[number % 3]
        splits[split].append(str(number))
        if split != "test":
            splits["trainval"].append(str(number))
    for split, numbers in splits.items():
        write_lines(folder / "ImageSets" / "Main" / f"{split}.txt", numbers)


def write_texts(folder: Path, scored: str, labelled: str) -> None:
    rows = [f"{n}\ta text of {n}\ta text of {n * n}" for n in range(6)]
    header = "score\tsentence1\tsentence2"
    write_lines(folder / f"{scored}_test.tsv", [header, *rows])
    for split in ("train", "test"):
        rows = [f"{n % 2}\ttext {n % 2} number {n}" for n in range(20)]
        write_lines(folder / f"{labelled}_{split}.tsv", ["label\ttext", *rows])


def write_sugarcrepe(folder: Path, images: Path) -> None:
    names = [write_image(images, number, f"{number}.jpg") for number in range(3)]
    content = {
        str(n): dict(filename=name, caption=f"a {n}", negative_caption=f"no {n}")
        for n, name in enumerate(names)
    }
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("add_att", "add_obj", "replace_att", "replace_obj", "replace_rel",
                 "swap_att", "swap_obj"):  # fmt: skip
        (folder / f"{kind}.json").write_text(json.dumps(content))


def table(section: str) -> list[list[str]]:
    """Returns the cells of the rows of a section's last table."""
    rows = re.findall(r"^\| (.*) \|$", SECTIONS[section].split("\n\n")[-2], re.M)
    return [row.split(" | ") for row in rows[1:]]


@pytest.fixture(scope="module")
def scores(place) -> dict[str, float]:
    """The scores of every example, run on the checkpoint of the run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        config = ConfigDict({"evals": {}})
        for example in EXAMPLES:
            exec(example, {"config": config})
        config.evals.written.batch_size = IMAGES  # affects the time only
        run = open_run("runs/mine")
        evaluators = make_evaluators(config.evals, run.encoder)
        assert {type(e) for e in evaluators.values()} == set(EVALUATORS.values())
        state, _ = run.restore()
        with jax.set_mesh(run.encoder.mesh):
            return {
                f"{name}/{metric}": float(value)
                for name, evaluator in evaluators.items()
                for metric, value in evaluator.run(state)
            }


def test_every_example_runs_and_has_the_scores_of_the_page(scores):
    metrics = {name.partition("/")[2] for name in scores}
    for names, *_ in table("Scores"):
        for name in re.findall(r"`(.*?)`", names):
            form = name.replace("K", "(1|5|10)").replace("N_shot/...", r"\d+_shot/.*")
            form = form.replace("...", ".*")
            assert any(re.fullmatch(form, metric) for metric in metrics), name
    assert all(scores[f"{k}/chance/accuracy"] for k in ("zero_shot", "voc", "far"))


def test_the_commands_of_the_page(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    (shell,) = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    plain, moved, suite, full = shell.splitlines()
    run = place / "runs" / "mine"
    assert main(shlex.split(plain, comments=True)[1:]) == DONE
    assert "scores" in json.loads((run / "eval" / "1.json").read_text())
    # The run's data are the scenes, which have no folder: name a source that has.
    assert moved.split("#")[0].rstrip().endswith("evals.retrieval.source.folder=/new")
    source = "evals.retrieval.source={'name': 'coco', 'folder': 'data/coco', 'split': "
    assert main(["evaluate", "runs/mine", f"{source}'test'}}"]) == DONE
    assert main(shlex.split(suite, comments=True)[1:]) == DONE
    check_results(json.loads((run / "eval" / "1-core.json").read_text()))
    out = " ".join(capsys.readouterr().out.split())
    assert main(shlex.split(full, comments=True)[1:]) == DONE
    assert "left out" in out
    written = json.loads((place / "scores.json").read_text())
    parts = {part for name in written["evals"] for part in name.split(":")}
    assert all(
        {"cifar10", "retrieval"} & set(name.split(":")) for name in written["evals"]
    )
    assert {"cifar10", "retrieval"} <= parts


def check_results(written: dict[str, Any]) -> None:
    """Compares the keys of a suite's results with those of the page."""
    keys = {key for row in table("Results") for key in re.findall(r"`(.*?)`", row[0])}
    assert keys <= written.keys()
    record_keys = re.findall(r"`(.*?)`", table("Results")[2][1])
    records = written["evals"].values()
    assert all(set(record_keys[:5]) < record.keys() for record in records)
    metrics = {metric for record in records for metric in record["metrics"]}
    assert {"acc1", "acc5", "mean_per_class_recall"} <= metrics
    assert "image_retrieval_recall@5" in metrics
    assert all("/" in name for name in written["scores"])


def test_every_layout_of_the_page_is_recognized(place):
    config = load_config(CONFIG, SMALL)
    entries = load_suite("full", DataFolder(str(place / "data")), config)
    made = {name for name, entry in entries.items() if not isinstance(entry, str)}
    layouts = [row[0] for row in table_of_layouts()]
    assert len(layouts) == 8, layouts
    assert {
        "zoo:retrieval", "zoo:captioning", "pets:zero_shot", "pets:few_shot",
        "retinamnist:linear_probe", "VOC2007:released_probe", "feelings:text_probe",
        "alike:text_similarity", "sugarcrepe:compositionality",
    } <= made  # fmt: skip
    assert entries["pets:zero_shot"]["source"]["split"] == "test"
    assert entries["cifar10:zero_shot"]["source"]["split"] == "val"
    assert entries["pets:zero_shot"]["dataset"] == "pets"


def table_of_layouts() -> list[list[str]]:
    [text] = [t for t in SECTIONS["Suites"].split("\n\n") if "| in the folder" in t]
    rows = re.findall(r"^\| (.*) \|$", text, re.MULTILINE)
    return [row.split(" | ") for row in rows[1:]]


def test_the_suite_of_the_page(place, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(place)
    rows = [f"{write_image(tmp_path, n)},caption {n}" for n in range(IMAGES)]
    write_lines(tmp_path / "test.csv", ["filepath,title", *rows])
    path = tmp_path / "mine.py"
    path.write_text(SUITE.replace("/data/mine", str(tmp_path)))
    command = ["evaluate", "runs/mine", "--suite", str(path), "--data", "data"]
    assert main([*command, "--only", "mine,pets"]) == DONE
    written = json.loads((place / "runs/mine/eval/1-mine.json").read_text())
    assert written["evals"].keys() == {"mine:retrieval", "pets:probe"}
    assert "lp_acc1" in written["evals"]["pets:probe"]["metrics"]


def test_arguments_and_defaults_of_the_page():
    text = SECTIONS["Evaluators"].split("Arguments of each type")[1]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE)
    assert {name for name, _ in rows} == EVALUATORS.keys()
    compared = 0
    for name, content in rows:
        parameters = inspect.signature(EVALUATORS[name]).parameters
        for key, default in re.findall(r"`(\w+)=(.+?)`", content):
            assert ast.literal_eval(default) == parameters[key].default, (name, key)
            compared += 1
    assert compared > 20


def test_imagenet_has_two_pairs_of_equal_names():
    names = list(class_names("imagenet1k"))
    twice = sorted({name for name in names if names.count(name) > 1})
    assert len(twice) == 2 and all(names.count(name) == 2 for name in twice)
    assert twice == sorted(re.findall(r"two such pairs \(`(\w+)`, `(\w+)`\)", PAGE)[0])
