"""Every example of docs/guides/data.md and formats.md, run on small data sets."""

import contextlib
import json
import re
import shlex
import shutil

import cv2
import numpy as np
import pytest

from clipin_jax.commands.main import main, parse
from clipin_jax.config import load_config
from clipin_jax.data import SOURCES, make_source
from clipin_jax.data.class_names import known_datasets
from clipin_jax.data.image.decode import decode
from clipin_jax.data.pipeline import TrainBatches
from clipin_jax.errors import DONE
from tests.conftest import REPOSITORY
from tests.support.format_writers import CLASS_WRITERS, WRITERS, Pair, write_pairs

GUIDES = REPOSITORY / "docs" / "guides"
PAGES = [(GUIDES / name).read_text("utf-8") for name in ("data.md", "formats.md")]
PAGE = "\n".join(PAGES)
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
CLASSES = ("cat", "dog")
GENERATED_CAPTIONS = ("scenes", "image_folder", *CLASS_WRITERS)


def pair(number):
    image = np.full((40, 50, 3), 20 * number, np.uint8)
    image = cv2.imencode(".jpg", image)[1].tobytes()
    captions = (f"image {number}", f"a photograph of {number}")
    return Pair(image, captions, number % len(CLASSES))


PAIRS = [pair(number) for number in range(10)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder `data` with the pairs in each format, under the name of its source."""
    folder = tmp_path_factory.mktemp("docs")
    for name in (*WRITERS, *CLASS_WRITERS):
        if name not in ("table:tsv", "table:jsonl"):
            write_pairs(name, folder / "data" / name.partition(":")[0], PAIRS, CLASSES)
    return folder


def run_block(block):
    """Runs an example; returns `source`, None if it sets none, and the config."""
    names = {"config": load_config("clip:runlocal").unlock()}
    exec(block, names)
    return names.get("source"), names["config"]


def example_sources():
    """Returns the arguments of each source in the examples, by its name."""
    sources = (run_block(block)[0] for block in BLOCKS)
    return {source["name"]: source for source in sources if source}


def test_page_has_a_short_example_of_every_source():
    assert example_sources().keys() == SOURCES.keys()
    assert all(len(block.splitlines()) <= 5 for block in BLOCKS)


@pytest.mark.parametrize("name", SOURCES)
def test_example_of_each_source(folder, monkeypatch, name):
    monkeypatch.chdir(folder)
    source = make_source(**example_sources()[name])
    records = [source[index] for index in range(len(PAIRS))]
    assert all(decode(record["image"]).ndim == 3 for record in records)
    if name not in GENERATED_CAPTIONS:
        assert [record["image"] for record in records] == [p.image for p in PAIRS]
        captions = [tuple(record["captions"]) for record in records]
        assert captions == [p.captions for p in PAIRS]


def test_examples_of_settings(folder, monkeypatch):
    monkeypatch.chdir(folder)
    settings = [config for source, config in map(run_block, BLOCKS) if not source]
    assert len(settings) == 6
    for config in settings:
        if config.data.caption_weights:
            config.data.source = write_kinds(folder)
        TrainBatches(config.data, seed=0, batch_size=4).close()
        make_source(**config.evals.retrieval.source)


def write_kinds(folder):
    """Writes captions of two kinds; returns the arguments of the source."""
    entry = {"image": "00001.jpg", "human": "a dog", "synthetic": "a brown dog"}
    path = folder / "kinds.json"
    path.write_text(json.dumps([entry] * 4))
    keys = ("human", "synthetic")
    images = str(folder / "data" / "coco" / "images")
    return dict(name="json_list", files=str(path), folder=images, captions=keys)


def test_keys_in_the_text_exist():
    config = load_config("clip:runlocal")
    keys = re.findall(r"`data\.([a-z_]+)[=`]", PAGE)
    assert keys and all(key in config.data for key in keys)


def test_commands_parse():
    shell = "".join(re.findall(r"^```bash\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
    commands = shell.replace("\\\n", " ").strip().splitlines()
    assert len(commands) == 4, commands
    for command in commands:
        program, *arguments = shlex.split(command, comments=True)
        assert program == "clipin"
        args = parse(arguments)
        config = load_config(args.config, args.overrides)
        assert config.evals.retrieval.source.folder == "data/coco"


def test_commands_before_training_run(folder, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    coco = folder / "data" / "coco"
    shutil.copy(coco / "captions_train.json", coco / "captions_val.json")
    shell = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[-1]
    for command in shell.splitlines():
        # The run of the page has batches of 256, more than there are pairs here.
        arguments = [*shlex.split(command, comments=True)[1:], "batch_size=4"]
        if "bench" in arguments:
            arguments += ["--seconds", "0.1"]
        assert main(arguments) == DONE, capfd.readouterr().err
    out = capfd.readouterr().out
    assert "one colour" in out
    assert "whole sample" in out and "threads=1 processes=1" in out
    assert (folder / "check.html").read_text().startswith("<!doctype html>")
    tars = sorted((folder / "shards").glob("*.tar"))
    copy = make_source(name="webdataset", files=str(folder / "shards"))
    assert tars and [copy[n]["image"] for n in range(len(copy))] == [
        pair.image for pair in PAIRS
    ]


def test_the_number_of_known_data_sets():
    [count] = re.findall(r"names and prompts of (\d+) well-known data sets", PAGE)
    assert int(count) == len(known_datasets())


def test_a_mixture_takes_three_of_four_records_from_the_web(folder, monkeypatch):
    monkeypatch.chdir(folder)
    config = load_config("clip:runlocal").unlock()
    config.data.source = example_sources()["mixture"]
    with contextlib.closing(TrainBatches(config.data, seed=0, batch_size=8)) as batches:
        web = [int((next(batches)["index"] >= len(PAIRS)).sum()) for _ in range(3)]
    assert web == [6, 6, 6]
