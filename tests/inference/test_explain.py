import shutil

import numpy as np
import pytest
from PIL import Image

import clipin_jax
from clipin_jax.commands.main import main
from clipin_jax.data.text import make_tokenizer
from clipin_jax.errors import ClipinError
from clipin_jax.inference import explain
from clipin_jax.report import heatmaps
from tests.support.tiny_runs import on_one_device, tiny_run, write_run


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with on_one_device():
        yield


def test_ids_are_decoded_to_words():
    tokenizer = make_tokenizer("bpe", context_length=8)
    text = "a Clipinish star and many other words"
    maps = np.arange(8, dtype=float)[:, None, None] * np.ones((8, 2, 2))
    words = explain.word_maps(text, maps, tokenizer)
    pieces = len(tokenizer.encode("clipinish"))
    assert 1 < pieces < 5
    assert [word for word, _ in words][:3] == ["a", "Clipinish", "star"]
    assert words[0][1][0, 0] == 1
    assert words[1][1][0, 0] == np.mean(np.arange(2, 2 + pieces))
    assert len(words) < 7  # the rest is cut off


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders of two runs, and image files."""
    folder = tmp_path_factory.mktemp("explain")
    write_run(tiny_run(), folder / "one")
    shutil.copytree(folder / "one", folder / "two")
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (30, 50, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "text.png").write_text("no image")
    return folder


def test_images_are_explained_for_notebooks(trained):
    explanations = clipin_jax.explain_image(
        trained / "one", [trained / "0.png", trained / "1.png"], "a red star",
        words=True,
    )  # fmt: skip
    assert [e.text for e in explanations] == ["a red star"] * 2
    for explanation in explanations:
        assert explanation.image.shape == (30, 50, 3)
        assert explanation.caption.ndim == 2 and explanation.caption.dtype == np.float32
        assert [word for word, _ in explanation.words] == ["a", "red", "star"]
        assert all(m.shape == explanation.caption.shape for _, m in explanation.words)


def test_the_command_writes_one_image_of_all_runs(trained, capsys):
    output = trained / "sheet.png"
    inputs = ["--image", str(trained / "0.png"), "--text", "a red star", "a box"]
    runs = [str(trained / "one"), str(trained / "two")]
    where = ["--output", str(output)]
    assert main(["explain", *runs, *inputs, *where]) == 0
    with Image.open(output) as sheet:
        two_rows = sheet.size
    assert str(output) in capsys.readouterr().out
    assert two_rows[0] > 3 * heatmaps.CELL
    prediction = ["--words", "--method", "prediction", "--layer", "0"]
    assert main(["explain", runs[0], *inputs, *where, *prediction]) == 0
    with Image.open(output) as sheet:
        assert sheet.size[0] > 5 * heatmaps.CELL


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(images="no.png"), "no.png does not exist"),
        (dict(images="text.png"), "is no image"),
        (dict(texts=""), "empty"),
        (dict(texts=[]), "no text"),
        (dict(layer=9), "layers 0 to 0"),
        (dict(method="matching"), "objectives.matching"),
        (dict(workdir="."), "config"),
    ],
)
def test_wrong_input_is_a_one_line_error(trained, arguments, message):
    given = dict(workdir="one", images="0.png", texts="a red star") | arguments
    folder = trained / given.pop("workdir")
    images = trained / given.pop("images")
    with pytest.raises(ClipinError, match=message):
        explain.explain_image(folder, images, given.pop("texts"), **given)


def test_a_run_without_a_checkpoint(trained, tmp_path):
    (tmp_path / "config.json").write_bytes(
        (trained / "one" / "config.json").read_bytes()
    )
    with pytest.raises(ClipinError, match="no checkpoint"):
        explain.explain_image(tmp_path, trained / "0.png", "a red star")
