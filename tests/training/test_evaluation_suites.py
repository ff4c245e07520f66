import ast
import contextlib
import inspect
import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from clipin_jax.commands.main import main, parse
from clipin_jax.data import SOURCES, make_source
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators import EVALUATORS, is_source, read_entry
from clipin_jax.evaluators.base import Figure, shown_figures
from clipin_jax.evaluators.compositionality import Compositionality
from clipin_jax.evaluators.datasets.data_folder import KINDS, DataFolder
from clipin_jax.evaluators.text_similarity import TextSimilarity
from clipin_jax.evaluators.zero_shot import ZeroShot
from clipin_jax.inference import build as inference_build
from clipin_jax.runs.build import build_experiment
from clipin_jax.runs.checkpoint import Checkpoints
from clipin_jax.runs.folder import open_folder
from clipin_jax.training import console
from clipin_jax.training.evaluation_suites import (
    evaluate_suite,
    list_suites,
    load_suite,
)
from tests.conftest import REPOSITORY
from tests.support import tiny_runs

SUITES = ("core", "full", "paper")
CLASSES = ("cat", "dog", "owl")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a run as training leaves it; its scores do not matter."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    # With seed 0 two cosines are alike but for rounding, and their order is chance.
    config = tiny_runs.tiny_run("seed=1")
    open_folder(config, folder)
    state = build_experiment(config, jax.devices()[:1]).init_state()
    checkpoints = Checkpoints(folder / "checkpoints")
    with contextlib.closing(checkpoints):
        checkpoints.save(tiny_runs.LAST, state, {}, force=True)
    return folder


def image_array(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(256, size=(12, 10, 3), dtype=np.uint8)


def write_jpeg(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".jpg", image_array(number))[1].tobytes())


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Data sets in each of the layouts, a few images each."""
    root = tmp_path_factory.mktemp("data")
    for split in ("train", "val"):
        for number in range(12):
            name = f"{split}{number}.jpg"
            folder = root / "classification" / "pets" / split / CLASSES[number % 3]
            write_jpeg(folder / name, number)
            write_jpeg(root / "captions/zoo/images" / name, number)
        images = [
            dict(id=n, file_name=f"{split}{n}.jpg", category_id=n % 3)
            for n in range(12)
        ]
        captions = [dict(image_id=n, caption=f"animal number {n}") for n in range(12)]
        categories = [dict(id=n, name=name) for n, name in enumerate(CLASSES)]
        content = dict(images=images, annotations=captions, categories=categories)
        (root / f"captions/zoo/captions_{split}.json").write_text(json.dumps(content))
    write_arrays(root / "npz" / "BreastMNIST.npz", 2)
    write_arrays(root / "npz" / "mine.npz", 3)
    write_texts(root / "text")
    return root


def write_arrays(path: Path, classes: int) -> None:
    path.parent.mkdir(exist_ok=True)
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = np.stack([image_array(n) for n in range(12)])
        arrays[f"{split}_labels"] = np.arange(12)[:, None] % classes
    np.savez(path, **arrays)


def write_texts(folder: Path) -> None:
    folder.mkdir()
    for split in ("train", "val"):
        rows = [f"{n % 2}\ttext {n % 2} number {n}" for n in range(20)]
        (folder / f"mood_{split}.tsv").write_text("\n".join(["label\ttext", *rows]))
    rows = [f"{n}\ta {n}\ta {n * n}" for n in range(6)]
    header = "score\tsentence1\tsentence2"
    (folder / "alike_val.tsv").write_text("\n".join([header, *rows]) + "\n")


def suite_file(folder: Path, body: str) -> str:
    path = folder / "mine.py"
    path.write_text(f'"""Mine."""\n\n\ndef get_evals(data, config):\n    {body}\n')
    return str(path)


def results(path: Path) -> dict:
    return json.loads(path.read_text())


def test_suites_are_listed_with_a_description():
    assert tuple(list_suites()) == SUITES and all(list_suites().values())
    for path in (REPOSITORY / "configs" / "suites").glob("*.py"):
        imported = {
            name
            for node in ast.walk(ast.parse(path.read_text()))
            for name in (
                [node.module] if isinstance(node, ast.ImportFrom)
                else [a.name for a in node.names] if isinstance(node, ast.Import)
                else []
            )
        }  # fmt: skip
        assert imported <= {"typing", "ml_collections", "clipin_jax.config"}, path


@pytest.mark.parametrize("name", SUITES)
def test_every_entry_of_a_suite_names_an_existing_evaluator_and_source(name, data):
    config = tiny_runs.tiny_run()
    entries = load_suite(name, DataFolder(str(data), {}), config)
    made = {key: e for key, e in entries.items() if not isinstance(e, str)}
    assert {"scenes_shape:zero_shot"} < made.keys() or name == "paper"
    for key, entry in made.items():
        assert entry["type"] in EVALUATORS, key
        if "source" in entry:
            assert len(make_source(**entry["source"]))


def test_data_sets_are_found_by_their_layout(data):
    folder = DataFolder(str(data))
    assert folder.names("pairs") == ("zoo",)
    assert set(folder.names("classes")) == {"BreastMNIST", "mine", "pets", "zoo"}
    assert set(folder.names("splits")) == set(folder.names("classes"))
    assert folder.names("similar_texts") == ("alike",)
    assert folder.names("labeled_texts") == ("mood",)
    entries = folder.over("classes", zero_shot=dict(type="zero_shot"))
    pets, breast = entries["pets:zero_shot"], entries["BreastMNIST:zero_shot"]
    assert pets["source"]["split"] == "val" and breast["source"]["split"] == "test"
    assert pets["dataset"] == "pets" and breast["dataset"] == "breastmnist"
    assert entries["zoo:zero_shot"]["source"]["labels"] == "category"
    assert entries["zoo:zero_shot"]["templates"] == ("a photo of a {}.",)
    assert "classnames.json" in entries["mine:zero_shot"]


def test_real_data_sets_are_found(data_folder):
    folder = DataFolder(str(data_folder))
    assert {"ucm", "coco_small", "cifar10", "retinamnist"} <= set(
        folder.names("splits")
    )
    assert set(folder.names("similar_texts")) == {"stsb_en", "stsb_zh"}
    assert set(folder.names("labeled_texts")) == {"sst2", "subj", "trec"}
    entries = folder.over("classes", zero_shot=dict(type="zero_shot"))
    for entry in entries.values():
        if not isinstance(entry, str):
            assert len(make_source(**entry["source"]).classes) > 1


def test_names_and_templates_in_the_data_folder_are_preferred(tmp_path):
    write_arrays(tmp_path / "npz" / "cifar10.npz", 3)
    assert "classnames.json" not in str(_zero_shot(tmp_path, "cifar10"))
    (tmp_path / "classnames.json").write_text(json.dumps({"cifar10": CLASSES}))
    entry = _zero_shot(tmp_path, "cifar10")
    assert entry["dataset"] == "cifar10"
    assert entry["names_file"] == str(tmp_path / "classnames.json")
    assert "templates_file" not in entry


def _zero_shot(folder, name):
    return DataFolder(str(folder)).over("classes", z=dict(type="zero_shot"))[
        f"{name}:z"
    ]


def test_voc_is_learnt_from_trainval_or_chosen_on_val(tmp_path):
    lists = tmp_path / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split in ("train", "val", "trainval", "test"):
        (lists / f"{split}.txt").touch()
    folder = DataFolder(str(tmp_path))
    zero_shot = folder.over("classes", "voc2007", z=dict(type="zero_shot"))
    probe = folder.over("splits", p=dict(type="released_probe"))["VOC2007:p"]
    tuned = folder.over("tuned", p=dict(type="linear_probe"))["VOC2007:p"]
    assert zero_shot["VOC2007:z"]["dataset"] == "voc2007"
    assert probe["source"]["split"] == tuned["source"]["split"] == "test"
    assert probe["train_source"]["split"] == "trainval" and "val_source" not in probe
    assert tuned["train_source"]["split"] == "train"
    assert tuned["val_source"]["split"] == "val"


def test_a_missing_data_set_is_skipped_with_a_reason(data):
    absent = DataFolder(str(data)).over("classes", "cifar100", z=dict(type="zero_shot"))
    assert "not in" in absent["cifar100:z"] and KINDS["classes"] in absent["cifar100:z"]
    nothing = DataFolder("", {}).over("similar_texts", t=dict(type="text_similarity"))
    assert nothing == {"t": f"needs --data FOLDER: {KINDS['similar_texts']}"}


def test_a_folder_without_data_sets_is_an_error(tmp_path):
    with pytest.raises(ClipinError, match="there is no folder .*absent"):
        DataFolder(str(tmp_path / "absent"))
    (tmp_path / "captions").mkdir()
    with pytest.raises(ClipinError, match="no data set in a known layout: captions/"):
        DataFolder(str(tmp_path))


BODY = """return {
        **data.over("pairs", "zoo", retrieval=dict(type="retrieval", batch_size=SIZE),
            paths=dict(type="retrieval", similarity="prediction", batch_size=SIZE),
            reranked=dict(type="retrieval", rerank=4), written=dict(type="captioning")),
        **data.over("classes", "zoo",
            zero_shot=dict(type="zero_shot", batch_size=SIZE)),
        **data.over("splits", "zoo", "sun397",
            linear_probe=dict(type="linear_probe", batch_size=SIZE),
            neighbours=dict(type="nearest_neighbors", k=3, batch_size=SIZE),
            few_shot=dict(type="few_shot", shots=(1, 2), batch_size=SIZE)),
        **data.over("similar_texts", alike=dict(type="text_similarity")),
    }"""


def test_suite_scores_do_not_depend_on_batch_size_or_devices(
    finished, data, tmp_path, monkeypatch, capsys
):
    scores = {}
    for devices, size in ((8, 16), (8, 5), (1, 7)):
        monkeypatch.setattr(
            inference_build,
            "build_experiment",
            lambda c, n=devices: build_experiment(c, jax.devices()[:n]),
        )
        scores[devices, size] = evaluate_suite(
            finished,
            suite_file(tmp_path, BODY.replace("SIZE", str(size))),
            data=str(data),
            output=tmp_path / f"{devices}-{size}.json",
        )
    first = scores.pop((8, 16))
    assert len({key.partition("/")[0] for key in first}) == 7
    for values in scores.values():
        assert values.keys() == first.keys()
        for key, value in values.items():
            assert value == pytest.approx(first[key], abs=1e-6, nan_ok=True), key
    written = results(tmp_path / "8-16.json")
    assert written["suite"] == "mine" and written["step"] == tiny_runs.LAST
    assert written["evals"]["zoo:zero_shot"]["dataset"] == "zoo"
    assert "acc1" in written["evals"]["zoo:zero_shot"]["metrics"]
    assert "jax" in written["environment"] and "devices" in written["environment"]
    assert "does not learn to match" in written["skipped"]["zoo:reranked"]
    assert "zoo:written" in written["skipped"]
    assert "not in" in written["skipped"]["sun397:linear_probe"]
    out = capsys.readouterr().out
    assert "left out: sun397:linear_probe" in " ".join(out.split())


def test_the_command_without_data_takes_the_embedded_scenes(finished, capsys):
    command = ["evaluate", str(finished), "--suite", "core", "--only", "zero_shot"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "scenes_color" in out and "suite core at step 6" in out
    assert max(map(len, out.splitlines()[:-1])) <= 80
    written = results(finished / "eval" / "6-core.json")
    assert set(written["evals"]) == {"scenes_color:zero_shot", "scenes_shape:zero_shot"}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["--suite", "coer"], "no suite 'coer'.*did you mean 'core'"),
        (["--suite", "core", "--only", "zero_shto"], "did you mean 'zero_shot'"),
        (["--suite", "core", "--data", "/absent"], "there is no folder /absent"),
        (["--data", "x"], "belong to a suite"),
        (
            ["--suite", "paper", "--only", "sun397"],
            "nothing of suite paper can be eval",
        ),
    ],
)
def test_errors_are_one_line(finished, capsys, command, message):
    assert main(["evaluate", str(finished), *command]) == 78
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    pytest.raises(ClipinError, _raise, error).match(message)


def _raise(text):
    raise ClipinError(text)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 3", "get_evals.* must return a dict"),
        ("return dict(a=3)", "get_evals.* must return a dict"),
        ("return 1 / 0", "mine.py, line 5: ZeroDivisionError"),
        ("return data.over('pears', a=dict())", "did you mean 'pairs'"),
        ("return data.over('pairs', a=dict(type='retreival'))", "mean 'retrieval'"),
        (
            "return data.over('pairs', a=dict(type='retrieval', size=3))",
            "size does not exist",
        ),
    ],
)
def test_an_invalid_suite_is_an_error(finished, tmp_path, body, message):
    with pytest.raises(ClipinError, match=message):
        evaluate_suite(finished, suite_file(tmp_path, body))


def test_damaged_data_is_skipped_with_a_reason(finished, data, tmp_path):
    body = 'return data.over("classes", z=dict(type="zero_shot"))'
    folder = tmp_path / "data" / "classification" / "broken" / "val"
    for name in CLASSES:
        write_jpeg(folder / name / "0.jpg", 0)
    (folder / "cat" / "0.jpg").write_bytes(b"no image")
    values = evaluate_suite(
        finished, suite_file(tmp_path, body), data=str(tmp_path / "data")
    )
    assert {key.partition(":")[0] for key in values} == {"scenes_color", "scenes_shape"}
    written = results(finished / "eval" / "6-mine.json")
    assert "0.jpg" in written["skipped"]["broken:z"]


def test_the_table_fits_80_columns_and_names_each_thing_once():
    values = {
        "a_data_set_with_a_long_name:zero_shot/accuracy": 0.123,
        "a_data_set_with_a_long_name:zero_shot/chance/accuracy": 0.1,
        "a_data_set_with_a_long_name:zero_shot/top5_accuracy": 0.5,
        "a_data_set_with_a_long_name:zero_shot/macro_auc": float("nan"),
        "a_data_set_with_a_long_name:few/accuracy": 1.0,
        "sts:similarity/spearman": 0.5,
        "sts:similarity/pearson": -0.25,
        "sts:similarity/chance/pearson": 0.0,
        "order:words/group_score": 0.5,
        "order:theirs/brightness": 12.3,
        "order:theirs/darkness": 0.5,
    }
    made: Any = {
        "a_data_set_with_a_long_name:zero_shot": ZeroShot,
        "a_data_set_with_a_long_name:few": ZeroShot,
        "sts:similarity": TextSimilarity,
        "order:words": Compositionality,
        "order:theirs": SimpleNamespace(
            figures={"bright*": Figure("{:.0f}", headline=True), "dark*": Figure()}
        ),
    }
    lines = console.table(values, shown_figures(made, values)).splitlines()
    assert max(map(len, lines)) == 80
    assert [line.split() for line in lines[2:]] == [
        ["a_data_set_with_..", "zero_shot", "accuracy", "12.3%", "10.0%"],
        ["macro_auc", "nan"],
        ["few", "accuracy", "100.0%"],
        ["sts", "similarity", "spearman", "0.500"],
        ["pearson", "-0.250", "0.000"],
        ["order", "words", "group_score", "50.0%"],
        ["theirs", "brightness", "12"],
    ]
    assert {line.index(line.split()[-2]) for line in lines[3:6]} == {43}


def test_the_evaluation_page_lists_all_suites_and_data_sets():
    path = REPOSITORY / "docs" / "guides" / "evaluation.md"
    page = path.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    config = ConfigDict(dict(evals={}))
    for block in blocks:
        assert len(block.splitlines()) <= 5, block
        exec(block, {"config": config})
    for name, entry in config.evals.items():
        read_entry(name, entry)
        for key in filter(is_source, entry):
            source = entry[key].to_dict()
            inspect.signature(SOURCES[source.pop("name")]).bind(**source)
    used = {entry.type for entry in config.evals.values()}
    assert used == EVALUATORS.keys()
    for kind in EVALUATORS.values():
        _, _, *parameters = inspect.signature(kind.__init__).parameters
        for name in parameters:
            assert re.search(rf"`{name}[`=]", page), (kind, name)
    types = set(re.findall(r"^\| `(\w+)` \| .* \| .* \|$", page, re.MULTILINE))
    assert EVALUATORS.keys() <= types
    (shell,) = re.findall(r"^```bash\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    for command in shell.splitlines():
        assert parse(shlex.split(command, comments=True)[1:]).verb == "evaluate"
