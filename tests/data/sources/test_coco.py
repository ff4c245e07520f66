"""COCO captions folders, valid and invalid."""

import json
import logging
import re

import cv2
import fsspec
import numpy as np
import pytest

from clipin_jax.data import make_source
from clipin_jax.data.image.decode import decode
from clipin_jax.data.source import BadRecord
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.datasets.annotations import read_captions


@pytest.fixture
def content():
    """Three images, the third without a caption."""
    names = ["a.jpg", "sub/b.png", "c.jpg"]
    images = [
        {"id": 10 + n, "file_name": name, "category_id": 7 - n, "objects": things}
        for n, (name, things) in enumerate(
            zip(names, [["dog", "cat"], [], ["cow"]], strict=True)
        )
    ]
    annotations = [
        {"id": 1, "image_id": 10, "caption": " a dog and a cat "},
        {"id": 2, "image_id": 11, "caption": "nothing"},
        {"id": 3, "image_id": 10, "caption": "two pets"},
        {"id": 4, "image_id": 12, "caption": "  "},
    ]
    categories = [{"id": 6, "name": "empty"}, {"id": 7, "name": "pets"}]
    categories.append({"id": 5, "name": "cattle"})
    return dict(images=images, annotations=annotations, categories=categories)


@pytest.fixture
def folder(tmp_path, content):
    (tmp_path / "images" / "sub").mkdir(parents=True)
    for entry in content["images"]:
        image = np.full((6, 8, 3), 100, np.uint8)
        assert cv2.imwrite(str(tmp_path / "images" / entry["file_name"]), image)
    write(tmp_path, content)
    return tmp_path


def write(folder, content, name="captions_train.json"):
    (folder / name).write_text(json.dumps(content))


def open_coco(folder, **cfg):
    return make_source(name="coco", folder=str(folder), **cfg)


def test_records(folder, caplog):
    source = open_coco(folder)
    assert "left out 1 images without captions" in caplog.text
    assert len(source) == 2 and source.classes == ()
    assert source[0]["captions"] == ("a dog and a cat", "two pets")
    assert decode(source[1]["image"]).shape == (6, 8, 3)
    assert source.annotations(1) == {"captions": ("nothing",)}
    assert source.describe(1).endswith("images/sub/b.png")
    for index in (-1, 2):
        with pytest.raises(IndexError):
            source[index]


def test_categories(folder):
    source = open_coco(folder, labels="category")
    assert source.classes == ("empty", "pets", "cattle")
    assert [source[0]["label"], source[1]["label"]] == [1, 0]


def test_objects_of_all_splits_share_classes(folder, content):
    content["images"] = content["images"][:1]
    content["images"][0]["objects"] = ["zebra", "cat"]
    content["annotations"] = content["annotations"][:1]
    write(folder, content, "captions_val.json")
    train, val = (
        open_coco(folder, split=s, labels="objects") for s in ("train", "val")
    )
    assert train.classes == val.classes == ("cat", "cow", "dog", "zebra")
    assert train[0]["label"] == [0, 2] and train[1]["label"] == []
    assert val[0]["label"] == [0, 3]


def test_captions_may_be_of_kinds(folder, content):
    assert "kinds" not in open_coco(folder)[0]
    content["annotations"][2]["kind"] = "synthetic"
    write(folder, content)
    source = open_coco(folder)
    assert source[0]["captions"] == ("a dog and a cat", "two pets")
    assert source.annotations(0)["kinds"] == ("", "synthetic")
    assert source[1]["kinds"] == ("",)


def test_a_folder_in_a_store(folder):
    url = f"memory://{folder.name}"
    store, path = fsspec.url_to_fs(url)
    store.put(f"{folder}/", path, recursive=True)
    local, remote = (open_coco(where, labels="objects") for where in (folder, url))
    assert [remote[0], remote[1]] == [local[0], local[1]]
    assert remote.describe(1) == f"{url}/images/sub/b.png"
    assert remote.fingerprint == local.fingerprint and remote.classes == local.classes
    store.rm(f"{path}/images/sub/b.png")
    with pytest.raises(OSError):
        open_coco(url)[1]
    assert open_coco(url)[0]["image"] == local[0]["image"]


def test_images_without_labels_are_left_out(folder, content, caplog):
    del content["images"][0]["category_id"]
    write(folder, content)
    assert len(open_coco(folder)) == 2
    assert len(open_coco(folder, labels="category")) == 1
    assert "left out 1 images without labels" in caplog.text
    del content["images"][1]["category_id"]
    write(folder, content)
    with pytest.raises(ClipinError, match="no image has what is asked for"):
        open_coco(folder, labels="category")


def test_objects_must_be_a_list(folder, content):
    content["images"][0]["objects"] = "dog"
    write(folder, content)
    with pytest.raises(ClipinError, match="'objects' of image a.jpg is no list"):
        open_coco(folder, labels="objects")


def test_captions_are_counted_by_image(folder, content):
    more = [{"image_id": 11, "caption": f"thing {n}"} for n in range(6)]
    content["annotations"] += more
    write(folder, content)
    captions, owner = read_captions(open_coco(folder), 0)
    assert owner.tolist() == [0] * 2 + [1] * 7 and captions[2:4] == [
        "nothing",
        "thing 0",
    ]
    captions, owner = read_captions(open_coco(folder), 5)
    assert owner.tolist() == [0] * 2 + [1] * 5 and captions[-1] == "thing 3"


def test_official_layout(folder, content):
    (folder / "annotations").mkdir()
    (folder / "images").rename(folder / "val2014")
    write(folder, content, "annotations/captions_val2014.json")
    source = open_coco(
        folder,
        split="val",
        captions="annotations/captions_{split}2014.json",
        images="{split}2014",
    )
    assert len(source) == 2 and source[0]["image"]


def test_fingerprint_follows_the_content(folder, content):
    before = open_coco(folder).fingerprint
    assert open_coco(folder).fingerprint == before
    assert open_coco(folder, labels="category").fingerprint != before
    content["annotations"][0]["caption"] = "two animals"
    write(folder, content)
    assert open_coco(folder).fingerprint != before


def test_missing_files(folder, tmp_path):
    with pytest.raises(ClipinError, match="nowhere does not exist"):
        open_coco(tmp_path / "nowhere")
    with pytest.raises(ClipinError, match="captions_val.json cannot be read"):
        open_coco(folder, split="val")
    with pytest.raises(ClipinError, match="photos does not exist"):
        open_coco(folder, images="photos")
    with pytest.raises(ClipinError, match="source.folder is missing"):
        make_source(name="coco")
    with pytest.raises(ClipinError, match="did you mean 'category'"):
        open_coco(folder, labels="categories")


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"images": [\n  {"id": }', "train.json is not valid JSON: line 2, column 10"),
        ("", "line 1, column 1"),
        ("[1]", "no JSON object"),
        ("{}", "no list 'images'"),
        ('{"images": []}', "list 'images' is empty"),
        ('{"images": [{"id": 1}]}', r"images\[0\] has no valid 'file_name'"),
        ('{"images": [{"id": 1, "file_name": "a"}]}', "no list 'annotations'"),
    ],
)
def test_malformed_json(folder, text, message):
    (folder / "captions_train.json").write_text(text)
    with pytest.raises(ClipinError, match=message):
        open_coco(folder)


def test_json_that_is_not_text(folder):
    (folder / "captions_train.json").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ClipinError, match="not valid JSON"):
        open_coco(folder)


def test_captions_of_absent_images(folder, content):
    content["annotations"] += [{"image_id": n, "caption": "x"} for n in range(90, 95)]
    write(folder, content)
    with pytest.raises(ClipinError, match="5 images .* 90, 91, 92, ..."):
        open_coco(folder)


def test_absent_image_files(folder, caplog):
    (folder / "images" / "sub" / "b.png").unlink()
    (folder / "images" / "sub").rmdir()
    source = open_coco(folder)
    assert len(source) == 2 and source[0]["image"]
    assert re.search(r"1 of 2 image files .*sub/b\.png", caplog.text)
    with pytest.raises(FileNotFoundError):
        source[1]
    (folder / "images" / "a.jpg").unlink()
    with pytest.raises(ClipinError, match=r"2 of 2 image files .*a\.jpg"):
        open_coco(folder)


def test_null_captions(folder, content):
    content["annotations"][1]["caption"] = None
    content["annotations"].append({"image_id": 10})
    write(folder, content)
    source = open_coco(folder)
    assert len(source) == 2
    assert source[0]["captions"] == ("a dog and a cat", "two pets")
    for read in (source.__getitem__, source.annotations):
        with pytest.raises(BadRecord, match="no caption"):
            read(1)
    assert source.describe(1).endswith("b.png")
    for row in content["annotations"]:
        row["caption"] = None
    write(folder, content)
    with pytest.raises(ClipinError, match=r"annotations\[0\] has no valid 'caption'"):
        open_coco(folder)


def test_an_image_in_place_of_its_name(folder, content):
    """A value of a file is never printed at length, nor taken for a folder."""
    for entry in content["images"]:
        entry["file_name"] = "abcde+fg/h" * 100
    write(folder, content)
    with pytest.raises(ClipinError, match="2 of 2 image files named in") as caught:
        open_coco(folder)
    assert len(str(caught.value)) < 600


def test_captions_in_json(folder, content):
    content["annotations"][0]["caption"] = '["a dog", "a cat"]'
    content["annotations"][1]["caption"] = '{"caption": "a dog"}'
    write(folder, content)
    source = open_coco(folder)
    assert source[0]["captions"][:2] == ("a dog", "a cat")
    with pytest.raises(BadRecord, match="no caption"):
        source[1]


def test_repeated_and_unknown_ids(folder, content):
    content["images"][0]["category_id"] = 99
    write(folder, content)
    with pytest.raises(ClipinError, match="a.jpg has category_id 99"):
        open_coco(folder, labels="category")
    content["images"][1]["id"] = 10
    write(folder, content)
    with pytest.raises(ClipinError, match="repeat an id"):
        open_coco(folder)


OBJECTS = dict(
    categories=[{"id": 1, "name": "dog"}, {"id": 3, "name": "cat"}],
    annotations=[
        {"image_id": 10, "category_id": 3, "bbox": [1, 2.5, 3, 2], "iscrowd": 0},
        {"image_id": 10, "category_id": 1, "bbox": [0, 0, 4, 4]},
        {"image_id": 10, "category_id": 1, "bbox": [0, 0, 8, 6], "iscrowd": 1},
        {"image_id": 99, "category_id": 1, "bbox": [0, 0, 4, 4]},
    ],
)


def test_boxes_of_objects(folder):
    write(folder, OBJECTS, "instances_train.json")
    source = open_coco(folder, boxes="instances_{split}.json")
    assert source[0]["boxes"] == (("cat", 1, 2.5, 3, 2), ("dog", 0, 0, 4, 4))
    assert source[1]["boxes"] == ()
    assert "boxes" not in open_coco(folder)[0]
    assert source.fingerprint != open_coco(folder).fingerprint


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(bbox=[1, 2, 3]), r"annotations\[0\] has no valid 'bbox' of 4 numbers"),
        (dict(bbox=[1, 2, 3, None]), r"annotations\[0\] has no valid 'bbox'"),
        (dict(bbox="1234"), r"annotations\[0\] has no valid 'bbox'"),
        (dict(category_id=2), "category_id that is not in 'categories'"),
        (dict(category_id=None), "no valid 'category_id'"),
    ],
)
def test_wrong_boxes(folder, wrong, message):
    row = OBJECTS["annotations"][0] | wrong
    write(folder, OBJECTS | {"annotations": [row]}, "o.json")
    with pytest.raises(ClipinError, match=message):
        open_coco(folder, boxes="o.json")
    with pytest.raises(ClipinError, match="cannot be read .*source.boxes"):
        open_coco(folder, boxes="absent.json")


@pytest.mark.parametrize(
    "name, labels, classes", [("ucm", "category", 21), ("coco_small", "objects", 76)]
)
def test_real_folders(data_folder, caplog, name, labels, classes):
    caplog.set_level(logging.ERROR)
    for split in ("train", "val"):
        source = open_coco(data_folder / "captions" / name, split=split, labels=labels)
        assert len(source.classes) == classes
        record = source[len(source) - 1]
        assert decode(record["image"]).ndim == 3 and record["captions"]
