import json
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from clipin_jax.commands.main import main
from clipin_jax.embeddings import embed, parts
from clipin_jax.embeddings.embed import embed_source
from clipin_jax.embeddings.files import read_embeddings
from clipin_jax.embeddings.given_source import source_arguments
from clipin_jax.errors import ClipinError
from clipin_jax.inference import model as model_module
from clipin_jax.inference.model import Model
from tests.support.html_pages import ParsedPage
from tests.support.pixel_model import WIDTH, pixel_model

COUNT = 21


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images with two captions each, and the list of their files."""
    folder = tmp_path_factory.mktemp("embed")
    (folder / "data").mkdir()
    rows = []
    for number in range(COUNT):
        pixels = np.random.default_rng(number).integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "data" / f"{number:02}.png")
        captions = [f"number {number}", f"the {number}"]
        rows.append(json.dumps({"image": f"{number:02}.png", "captions": captions}))
    (folder / "data" / "pairs.jsonl").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="module")
def model() -> Model:
    return pixel_model(batch_size=4)


@pytest.fixture(scope="module")
def source(folder):
    return source_arguments(str(folder / "data" / "pairs.jsonl"))


@pytest.fixture(scope="module")
def images(folder, model):
    return model.encode_image([folder / "data" / f"{n:02}.png" for n in range(COUNT)])


@pytest.mark.parametrize("ending", [".npy", ".parquet"])
def test_both_formats_have_images_and_texts_in_order(
    model, source, images, tmp_path, ending
):
    path = tmp_path / f"all{ending}"
    assert embed_source(model, source, path, what="both") == 3 * COUNT
    found = read_embeddings(path)
    kinds = found.facts["kind"].to_pylist()
    assert kinds == ["image", "text", "text"] * COUNT
    assert found.facts["index"].to_pylist() == np.arange(COUNT).repeat(3).tolist()
    captions = found.facts["caption"].to_pylist()
    assert captions[:6] == [*["number 0"] * 2, "the 0", *["number 1"] * 2, "the 1"]
    assert "01.png" in found.row(3).id
    np.testing.assert_allclose(found.vectors[::3], images, atol=1e-6)
    texts = model.encode_text([captions[1], captions[2]])
    np.testing.assert_allclose(found.vectors[1:3], texts, atol=1e-6)
    assert found.origin.fingerprint == model.fingerprint
    names = {f"all{ending}", *(["all.ids.parquet"] if ending == ".npy" else [])}
    assert {file.name for file in tmp_path.iterdir()} == names


def test_other_tools_read_the_files(model, source, images, tmp_path):
    embed_source(model, source, tmp_path / "a.npy")
    embed_source(model, source, tmp_path / "a.parquet")
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), images, atol=1e-6)
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column_names == ["index", "kind", "id", "caption", "embedding"]
    np.testing.assert_allclose(table["embedding"].to_pylist(), images, atol=1e-6)
    ids = pq.read_table(tmp_path / "a.ids.parquet")
    assert ids["id"].to_pylist() == table["id"].to_pylist()


class Stop(Exception):
    """Ends the process, as a kill would."""


@pytest.mark.parametrize("what", ["image", "text", "both"])
def test_a_stopped_command_goes_on_and_computes_nothing_twice(
    model, source, tmp_path, monkeypatch, what
):
    whole, path = tmp_path / "whole.npy", tmp_path / "part.npy"
    embed_source(model, source, whole, what=what)
    add = parts.Parts.add

    def add_some(self, end, table):
        if end > 12:
            raise Stop
        add(self, end, table)

    with monkeypatch.context() as patch:
        patch.setattr(parts.Parts, "add", add_some)
        with pytest.raises(Stop):
            embed_source(model, source, path, what=what, part_seconds=0)
    assert not path.exists()
    finished = sorted((tmp_path / "part.npy.parts").glob("*.parquet"))
    assert [file.stem for file in finished] == [
        f"{start:012d}-{start + 4:012d}" for start in (0, 4, 8)
    ]
    # Damage of the machine's crash: the part, and those after it, are made again.
    finished[2].write_bytes(b"")
    vectors = np.load(whole)
    count = embed_source(model, source, path, what=what)
    assert count == len(vectors) * (COUNT - 8) // COUNT
    np.testing.assert_allclose(np.load(path), vectors, atol=1e-6)
    assert not (tmp_path / "part.npy.parts").exists()
    assert embed_source(model, source, path, what=what) == 0


def test_nothing_is_mixed_or_replaced(folder, model, source, tmp_path):
    path = tmp_path / "a.parquet"
    embed_source(model, source, path)
    content = path.read_bytes()
    with pytest.raises(
        ClipinError, match=r"has embeddings of another --what \(image\)"
    ):
        embed_source(model, source, path, what="text")
    (folder / "other").mkdir(exist_ok=True)
    shutil.copytree(folder / "data", folder / "other", dirs_exist_ok=True)
    pairs = folder / "other" / "pairs.jsonl"
    pairs.write_text(pairs.read_text().replace("number", "n"))
    with pytest.raises(ClipinError, match="has embeddings of another source"):
        embed_source(model, source_arguments(str(pairs)), path)
    assert path.read_bytes() == content
    with parts.own_parts(tmp_path / "b.npy"):
        parts.Parts(tmp_path / "b.npy", read_embeddings(path).origin)
        with pytest.raises(ClipinError, match="another process writes"):
            embed_source(model, source, tmp_path / "b.npy")
    with pytest.raises(ClipinError, match="b.npy.parts has parts of another --what"):
        embed_source(model, source, tmp_path / "b.npy", what="both")


def test_a_record_that_cannot_be_read_is_named(folder, model, tmp_path):
    shutil.copytree(folder / "data", tmp_path / "data")
    bad = tmp_path / "data" / "13.png"
    bad.write_bytes(bad.read_bytes()[:300])
    source = source_arguments(str(tmp_path / "data" / "pairs.jsonl"))
    path = tmp_path / "a.npy"
    with pytest.raises(ClipinError, match=r"record 13, .*13.png.* cannot be decoded"):
        embed_source(model, source, path, part_seconds=0)
    shutil.copy(folder / "data" / "13.png", bad)
    assert 0 < embed_source(model, source, path) < COUNT  # goes on


def test_a_full_disk_is_one_line_and_keeps_the_parts(
    model, source, tmp_path, monkeypatch
):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(embed, "write_embeddings", full)
        with pytest.raises(ClipinError, match="No space left.* goes on with the"):
            embed_source(model, source, tmp_path / "a.npy")
    with monkeypatch.context() as patch:
        patch.setattr(Model, "stream_images", full)  # is not called
        embed_source(model, source, tmp_path / "a.npy")
    assert np.load(tmp_path / "a.npy").shape == (COUNT, WIDTH)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npz", b"", "give a file that ends with .npy or .parquet"),
        ("a.parquet", None, "does not exist: write it by"),
        ("a.parquet", b"no table", "is damaged, or no file of `clipin embed`"),
        ("a.npy", b"no array", "a.ids.parquet does not exist"),
    ],
)
def test_what_is_no_file_of_embeddings(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ClipinError, match=message):
        read_embeddings(path)


def test_damaged_embeddings(model, source, tmp_path):
    path = tmp_path / "a.npy"
    embed_source(model, source, path)
    content = path.read_bytes()
    path.write_bytes(content[:-50])
    with pytest.raises(ClipinError, match="is damaged"):
        read_embeddings(path)
    np.save(path, np.zeros((2, WIDTH), np.float32))
    with pytest.raises(ClipinError, match=r"vectors \[2, 12\], but .* of 21"):
        read_embeddings(path)


@pytest.mark.parametrize(
    ("text", "split", "arguments"),
    [
        ("/no/pairs.csv", "", dict(name="auto", path="/no/pairs.csv", split="")),
        ("/no/coco", "", dict(name="coco", folder="/no/coco", split="train")),
        ("/no/coco", "val", dict(name="coco", folder="/no/coco", split="val")),
        ("gs://a/b.tar", "", dict(name="auto", path="gs://a/b.tar", split="")),
        ("{'name': 'x', 'length': 3}", "", dict(name="x", length=3)),
        ("{'name': 'x'}", "val", dict(name="x", split="val")),
    ],
)
def test_sources_are_named_as_in_a_config(text, split, arguments):
    assert source_arguments(text, split) == arguments


@pytest.mark.parametrize("text", ["{", "{1: 2}", "{'a'}", "{'name': open}"])
def test_a_source_that_is_no_dict(text):
    with pytest.raises(ClipinError, match="is no dict"):
        source_arguments(text)


@pytest.fixture
def loaded(monkeypatch):
    """Replaces models of run folders; lists how they were asked for."""
    asked = []

    def load(source, *, step=None, batch_size=4):
        asked.append((source, step, batch_size))
        return pixel_model(batch_size)

    monkeypatch.setattr(model_module, "load", load)
    return asked


def test_the_commands(folder, tmp_path, capsys, monkeypatch, loaded):
    monkeypatch.chdir(folder)
    path, page = tmp_path / "a.parquet", tmp_path / "found.html"
    run = ["run", "data/pairs.jsonl", "--output", str(path)]
    assert main(["embed", *run, "--what", "both", "--batch-size", "8"]) == 0
    captured = capsys.readouterr()
    assert "a.parquet (63 embeddings computed)" in captured.out
    assert "21/21" in captured.err and "<Model pixels@1" in captured.err
    assert main(["embed", *run, "--what", "both", "--step", "5"]) == 0
    assert loaded == [("run", None, 8), ("run", 5, 256)]
    assert "it was complete" in capsys.readouterr().out
    search = ["search", "run", str(path)]
    assert main([*search, "data/07.png", "--top", "2", "--page", str(page)]) == 0
    first, second, written = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r" 1\.000  .*data/07\.png.*  number 7", first)
    assert float(second.split()[0]) <= 1 and "found.html" in written
    parsed = ParsedPage(page.read_text())
    assert parsed.count("img") == 3 and "number 7" in parsed.texts
    assert main([*search, "number 7", "--top", "1"]) == 0
    # The model tells texts apart by their number modulo 7.
    assert re.fullmatch(
        r" 1\.000  .*00\.png.* \(text\)  number 0\n", capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embed", "run", "data", "--output", "a.txt"], "ends with .npy or .parquet"),
        (["embed", "no", "data/pairs.jsonl", "--output", "a.npy"], "is no run folder"),
        (["search", "run", "a.npy", "a star"], "a.npy does not exist"),
    ],
)
def test_wrong_commands_are_one_line(folder, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(folder)
    assert main(arguments) == 78
    error = capsys.readouterr().err.splitlines()
    assert error[-1].startswith("clipin: error: ") and message in error[-1]
