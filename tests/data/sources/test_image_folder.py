"""A folder per class: labels, captions from templates, links and hidden files."""

import json
import pickle

import fsspec
import pytest
from PIL import Image

from clipin_jax import storage
from clipin_jax.data import make_source
from clipin_jax.data.image.decode import decode
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.datasets.annotations import read_labels

FILES = ("polar_bear/b.PNG", "polar_bear/a.jpg", "polar_bear/sub/c.webp", "ant/z.tiff")
OTHERS = (
    "notes.txt",
    "ant/labels.csv",
    "ant/.z.jpg",
    ".git/x.jpg",
    "ant/.thumbs/y.jpg",
)


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path):
    where = str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"
    for name in (*FILES, *OTHERS):
        put(where, name, name)
    return where


def put(folder, name, content):
    with fsspec.open(storage.join(str(folder), name), "wt", auto_mkdir=True) as file:
        file.write(content)


def open_folder(folder, **cfg):
    return make_source(name="image_folder", folder=str(folder), **cfg)


def test_classes_and_images_are_sorted(folder):
    source = open_folder(folder)
    assert source.classes == ("ant", "polar bear")
    actual = [source[index] for index in range(len(source))]
    order = (FILES[3], FILES[1], FILES[0], FILES[2])
    assert [record["image"].decode() for record in actual] == list(order)
    assert [record["label"] for record in actual] == [0, 1, 1, 1]
    assert actual[1]["captions"] == ("a photo of a polar bear.",)
    assert source.annotations(0) == {"captions": ("a photo of a ant.",), "label": 0}
    assert source.describe(3) == storage.join(folder, FILES[2])
    for index in (-1, 4):
        with pytest.raises(IndexError):
            source[index]


def test_images_with_rare_endings_or_none(tmp_path, caplog):
    taken = ["1.jfif", "2.jpe", "3.AVIF", "4.Tif", "5.JPEG", "6", "7.8", "8.webp"]
    image = b"\xff\xd8\xff\xe0 and more"
    contents = dict.fromkeys(taken, image)
    others = {"9": b"text", "a.txt": b"a", "b.TXT": b"b", "c.heic": image, "d.": b""}
    (tmp_path / "cat").mkdir()
    for name, content in (contents | others).items():
        (tmp_path / "cat" / name).write_bytes(content)
    (tmp_path / "outside.jpg").write_bytes(image)
    source = open_folder(tmp_path)
    names = [source.describe(n).rpartition("/")[2] for n in range(len(source))]
    assert names == taken
    warning = "left out 6 files that are no images of a class: 2 "
    assert warning in caplog.text
    for kind in ("2 without an ending", "2 .txt", "1 .heic", "1 .jpg"):
        assert kind in caplog.text


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG"])
def test_every_format_is_recognized_by_content(tmp_path, kind):
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "cat" / "0", kind)
    assert decode(open_folder(tmp_path)[0]["image"]).shape == (8, 8, 3)


def test_several_templates_are_several_captions(folder):
    source = open_folder(folder, templates=("{}", "the {}, a {}"))
    assert source[1]["captions"] == ("polar bear", "the polar bear, a polar bear")
    assert source.fingerprint != open_folder(folder).fingerprint


def test_names_and_label_order_from_a_file(folder, caplog):
    write_names(folder, ["polar_bear", "cow", "ant"], ["Ursus", "Bos", "Formica"])
    source = open_folder(folder, templates=("a {}",), names="classes.json")
    assert source.classes == ("Ursus", "Bos", "Formica")
    assert source[0]["label"] == 0 and source[0]["captions"] == ("a Ursus",)
    assert source[3]["label"] == 2 and source.describe(3).endswith("z.tiff")
    assert "no folder for 1 classes" in caplog.text


def write_names(folder, classes, names):
    put(folder, "classes.json", json.dumps({"classes": classes, "names": names}))


def test_labels_agree_with_a_split_that_lacks_a_class(tmp_path):
    for name in ("train/a/1.jpg", "train/b/2.jpg", "test/b/3.jpg"):
        put(tmp_path, name, name)
    write_names(tmp_path, ["b", "c", "a"], ["bee", "cow", "ant"])
    train, test = (
        open_folder(tmp_path, split=split, names="classes.json")
        for split in ("train", "test")
    )
    assert train.classes == test.classes == ("bee", "cow", "ant")
    assert read_labels(train, 3).tolist() == [0, 2]
    assert read_labels(test, 3).tolist() == [0]


def test_fingerprint_follows_the_files(folder):
    before = open_folder(folder).fingerprint
    assert open_folder(folder).fingerprint == before
    put(folder, "ant/new.jpg", "new")
    assert open_folder(folder).fingerprint != before


def test_links_are_followed_but_not_in_circles(tmp_path):
    for name in ("data/ant/a.jpg", "elsewhere/b.jpg", "elsewhere/deep/c.jpg"):
        put(tmp_path, name, name)
    (tmp_path / "data" / "ant" / "link.jpg").symlink_to(tmp_path / "elsewhere/b.jpg")
    (tmp_path / "data" / "ant" / "up").symlink_to(tmp_path / "data" / "ant")
    (tmp_path / "data" / "bee").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "bee" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    source = open_folder(tmp_path / "data")
    names = [source.describe(index).partition("data/")[2] for index in range(5)]
    assert names[:2] == ["ant/a.jpg", "ant/link.jpg"]
    assert names[2:] == ["bee/b.jpg", "bee/gone.jpg", "bee/deep/c.jpg"]
    assert source[1]["image"] == b"elsewhere/b.jpg"
    with pytest.raises(OSError):
        source[3]


def test_a_pickled_source(folder):
    source = open_folder(folder)
    assert pickle.loads(pickle.dumps(source))[1] == source[1]


def test_missing_files(folder):
    with pytest.raises(ClipinError, match="nowhere does not exist; set source.folder"):
        open_folder(folder, split="nowhere")
    with pytest.raises(ClipinError, match="sub has no folders"):
        open_folder(folder, split="polar_bear/sub")
    put(folder, "cow/readme.txt", "no image")
    with pytest.raises(ClipinError, match="class folder .*cow has no image"):
        open_folder(folder)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(templates="a {}"), "must be a list of captions"),
        (dict(templates=()), "must be a list of captions"),
        (dict(templates=("a photo",)), "'a photo' has no \"{}\""),
        (dict(names="none.json"), "none.json cannot be read .* set source.names"),
    ],
)
def test_wrong_arguments(folder, wrong, message):
    with pytest.raises(ClipinError, match=message):
        open_folder(folder, **wrong)


@pytest.mark.parametrize(
    "classes, names, message",
    [
        (["ant", "polar_bear"], ["x"], "2 different 'classes' and 1 'names'"),
        (["ant", "ant"], ["x", "y"], "1 different 'classes' and 2 'names'"),
        (["ant"], ["x"], r"lack 1 folders of .* \(polar_bear\)"),
        (["ant", 3], ["x", "y"], "no list 'classes' of strings"),
        (["ant"], "x", "no list 'names' of strings"),
    ],
)
def test_names_that_do_not_match_the_folders(folder, classes, names, message):
    write_names(folder, classes, names)
    with pytest.raises(ClipinError, match=message):
        open_folder(folder, names="classes.json")


@pytest.mark.parametrize("name", ["cifar10", "clothing", "dr_fundus"])
def test_real_folders(data_folder, name):
    train, val = (
        open_folder(
            data_folder / "classification" / name, split=split, names="classes.json"
        )
        for split in ("train", "val")
    )
    assert train.classes == val.classes and len(train.classes) == 10
    assert "_" not in "".join(train.classes)
    record = train[len(train) - 1]
    assert decode(record["image"]).ndim == 3 and record["label"] == 9
