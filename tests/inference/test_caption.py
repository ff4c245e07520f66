import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipin_jax.commands.main import main
from clipin_jax.config import load_config
from clipin_jax.errors import ClipinError
from clipin_jax.inference import caption
from clipin_jax.training.evaluate import evaluate
from tests.support import tiny_runs

TINY = (
    "batch_size=8", "total_steps=2", "log_every_steps=1", "data.source.length=16",
    "model.image.width=32", "model.image.depth=1", "model.text.width=32",
    "model.text.depth=1", "model.text.decoder_depth=1", "model.text.context_length=16",
    "evals.captioning.decoding.max_length=8", "evals.captioning.source.length=8",
    "evals.captioning.every_steps=0", "evals.retrieval.source.length=8",
    "evals.retrieval.every_steps=0", "checkpoint.every_steps=2",
    "health_every_steps=0", "log.tensorboard=false",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with tiny_runs.on_one_device():
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "coca"
    tiny_runs.write_run(load_config("coca:runlocal", TINY), folder, step=2)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    names = [str(folder / name) for name in ("red.png", "green.jpg")]
    for name, color in zip(names, ((255, 0, 0), (0, 255, 0)), strict=True):
        pixels = np.broadcast_to(np.array(color, np.uint8), (40, 30, 3))
        Image.fromarray(pixels).save(name)
    return names


def test_the_run_is_scored(run):
    scores = evaluate(run)
    assert {"captioning/bleu_4", "captioning/chance/cider_d"} <= scores.keys()


def test_the_command_prints_the_captions_of_the_library(run, files, capsys):
    # The second alone, and with the config's own options.
    (alone,) = caption.caption_images(run, files[1:], step=2, strategy="greedy")
    captions = caption.caption_images(run, files)
    assert captions[1] == alone
    assert len(captions) == 2 and all(isinstance(c, str) for c in captions)
    assert main(["caption", str(run), *files]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{f}: {c}" for f, c in zip(files, captions, strict=True)]


def test_the_command_forwards_its_options_and_prints_json(monkeypatch, capsys):
    calls = []

    def caption_images(*arguments):
        calls.append(arguments)
        return ["a dog", "ein Hündchen"]

    monkeypatch.setattr(caption, "caption_images", caption_images)
    command = ["caption", "run", "1.png", "2.png", "--json", "--step", "2"]
    assert main([*command, "--strategy", "beam"]) == 0
    assert calls == [("run", [Path("1.png"), Path("2.png")], 2, "beam")]
    output = capsys.readouterr().out
    assert "Hündchen" in output
    assert json.loads(output) == [
        {"image": "1.png", "caption": "a dog"},
        {"image": "2.png", "caption": "ein Hündchen"},
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.png"], "nothing.png does not exist"),
        ([__file__], "cannot be decoded: UnidentifiedImageError"),
        (["--strategy", "best"], "decoding.strategy is 'best'"),
        (["--step", "1"], "no checkpoint of step 1"),
    ],
)
def test_wrong_input_is_a_one_line_error(run, files, arguments, message, capsys):
    assert main(["caption", str(run), files[0], *arguments]) == 78
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_without_captioning_in_the_config_captions_are_short_and_greedy(run, files):
    config = load_config(str(run))
    with config.unlocked():
        del config.evals.captioning
    decoding = caption.default_decoding(config)
    assert (decoding.strategy, decoding.max_length) == ("greedy", 16)


def test_no_run(tmp_path, files):
    with pytest.raises(ClipinError, match="is no run folder"):
        caption.caption_images(tmp_path, files)
