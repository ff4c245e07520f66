"""PASCAL VOC's folders: labels, boxes, difficult objects, and what may be wrong."""

import pickle

import fsspec
import numpy as np
import pytest

from clipin_jax import storage
from clipin_jax.data import make_source
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.datasets.annotations import read_labels

DOG, PERSON, CAT = 11, 14, 7


def thing(name, box=(2, 3, 10, 20), difficult=0, inside=""):
    sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    box = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult>{inside}"
        f"<bndbox>{box}</bndbox></object>"
    )


HAND = "<part><name>hand</name><bndbox><xmin>4</xmin></bndbox></part>"
NOTES = {
    "000005": thing("person", inside=HAND) + thing("dog", (1, 1, 9.5, 30)),
    "000007": thing("person") + thing("cat", difficult=1) + thing("person"),
    "000009": thing("cat", difficult=1),
    "2008_000008": thing("cat"),
}
SPLITS = {
    "train": "000005\n000007\n",
    "val": "000009  \n2008_000008\n",
    "trainval": "000005\n000007\n000009\n2008_000008\n",
    "dog_train": "000005  1\n000007 -1\n",
}


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path):
    where = str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"
    for name, objects in NOTES.items():
        put(where, f"Annotations/{name}.xml", f"<annotation>{objects}</annotation>")
        put(where, f"JPEGImages/{name}.jpg", name)
    for split, lines in SPLITS.items():
        put(where, f"ImageSets/Main/{split}.txt", lines)
    return where


def put(folder, name, content):
    path = storage.join(str(folder), name)
    with fsspec.open(path, "wt", auto_mkdir=True) as file:
        file.write(content)


def open_voc(folder, **cfg):
    return make_source(name="voc", folder=str(folder), **cfg)


def labels_of(source):
    return [source.annotations(index)["label"] for index in range(len(source))]


def test_records(folder):
    source = open_voc(folder)
    assert len(source) == 4 and len(source.classes) == 20
    assert source[0] == {
        "image": b"000005",
        "captions": ("dog, person",),
        "label": [DOG, PERSON],
        "boxes": (("person", 1.0, 2.0, 9.0, 18.0), ("dog", 0.0, 0.0, 9.5, 30.0)),
    }
    assert source.annotations(3)["label"] == [CAT]
    assert source.describe(3) == storage.join(folder, "JPEGImages/2008_000008.jpg")
    for index in (-1, 4):
        with pytest.raises(IndexError):
            source[index]


def test_difficult_objects_count_where_that_is_asked_for(folder):
    usual, all_of_them = open_voc(folder), open_voc(folder, difficult=True)
    assert labels_of(usual) == [[DOG, PERSON], [PERSON], [], [CAT]]
    assert labels_of(all_of_them) == [[DOG, PERSON], [CAT, PERSON], [CAT], [CAT]]
    assert [len(usual[n]["boxes"]) for n in range(4)] == [2, 2, 0, 1]
    assert [len(all_of_them[n]["boxes"]) for n in range(4)] == [2, 3, 1, 1]
    assert usual[2]["captions"] == ("none of the classes",)
    assert usual.fingerprint != all_of_them.fingerprint


def test_labels_are_those_of_the_lists_of_each_class(folder):
    members = read_labels(open_voc(folder, split="train"), 20)
    listed = [line.split()[1] == "1" for line in SPLITS["dog_train"].splitlines()]
    np.testing.assert_array_equal(members[:, DOG], listed)
    assert members.sum() == 3


def test_splits_follow_their_lists(folder):
    val = open_voc(folder, split="val")
    assert [val[index]["image"] for index in range(2)] == [b"000009", b"2008_000008"]
    assert val.fingerprint != open_voc(folder, split="train").fingerprint
    before = open_voc(folder).fingerprint
    put(folder, "Annotations/000007.xml", "<annotation/>")
    assert open_voc(folder).fingerprint != before


def test_a_source_can_be_pickled(folder):
    source = open_voc(folder)
    assert pickle.loads(pickle.dumps(source))[0] == source[0]


def test_missing_files_are_named(folder):
    with pytest.raises(
        ClipinError, match="no test.txt; there are train, trainval, val"
    ):
        open_voc(folder, split="test")
    with pytest.raises(ClipinError, match="ImageSets/Main does not exist; .*VOC2007"):
        open_voc(storage.join(folder, "nowhere"))
    put(folder, "ImageSets/Main/test.txt", "000005\n000006\n")
    with pytest.raises(ClipinError, match=r"1 of 2 image files .*000006\.jpg"):
        open_voc(folder, split="test")
    put(folder, "JPEGImages/000006.jpg", "")
    with pytest.raises(ClipinError, match=r"000006.xml cannot be read .*source.folder"):
        open_voc(folder, split="test")


@pytest.mark.parametrize(
    "lines, message", [("", "is empty"), ("000005\n000005\n", "names an image twice")]
)
def test_lists_that_are_wrong(folder, lines, message):
    put(folder, "ImageSets/Main/train.txt", lines)
    with pytest.raises(ClipinError, match=message):
        open_voc(folder, split="train")


@pytest.mark.parametrize(
    "content, message",
    [
        ("<annotation>", "000005.xml is not valid XML: no element found: line 1"),
        ("", "not valid XML"),
        (
            thing("dog") + thing("wolf"),
            "object 2 is a 'wolf', which is no class of VOC",
        ),
        ("<object/>", "object 1 is a ''"),
        ("<object><name>dog</name></object>", "object 1 has no valid box"),
        (thing("dog", (1, 2, "x", 4)), "no valid box or mark: .*'x'"),
        (thing("dog", (9, 2, 5, 4)), "has an empty box: 9.0, 2.0, 5.0, 4.0"),
        (thing("dog", (1, 2, "nan", 4)), "has an empty box"),
        (thing("dog", difficult="?"), "no valid box or mark"),
    ],
)
def test_annotations_that_are_wrong(folder, content, message):
    whole = f"<annotation>{content}</annotation>" if "<object" in content else content
    put(folder, "Annotations/000005.xml", whole)
    with pytest.raises(ClipinError, match=message):
        open_voc(folder)
