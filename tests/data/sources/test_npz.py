"""Arrays of images and labels: shapes, kinds of labels, and files that are wrong."""

import pickle

import fsspec
import numpy as np
import pytest

from clipin_jax import storage
from clipin_jax.data import make_source
from clipin_jax.data.class_names import class_names
from clipin_jax.data.image.decode import decode
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.datasets.annotations import read_labels


def arrays(**changes):
    """Two splits, of 5 and 3 images of 4 x 6, with labels 0, 1, 2 and one of 3."""
    rng = np.random.default_rng(0)
    content = {
        "train_images": rng.integers(0, 256, (5, 4, 6, 3), np.uint8),
        "train_labels": np.array([[2], [0], [1], [1], [0]], np.uint8),
        "val_images": rng.integers(0, 256, (3, 4, 6, 3), np.uint8),
        "val_labels": np.array([[3], [0], [1]], np.uint8),
    }
    content |= changes
    return {name: value for name, value in content.items() if value is not None}


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path):
    return str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"


def open_npz(folder, content=None, save=np.savez_compressed, **cfg):
    path = storage.join(str(folder), "set.npz")
    with fsspec.open(path, "wb", auto_mkdir=True) as file:
        save(file, **(arrays() if content is None else content))
    return make_source(name="npz", file=path, **cfg)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_records(folder, save):
    content = arrays()
    source = open_npz(folder, content, save)
    assert len(source) == 5 and source.classes == ("0", "1", "2", "3")
    for index, label in enumerate([2, 0, 1, 1, 0]):
        record = source[index]
        assert record["label"] == label and record["captions"] == (str(label),)
        np.testing.assert_array_equal(record["image"], content["train_images"][index])
        assert source.annotations(index) == {
            k: record[k] for k in ("captions", "label")
        }
    place = f"image 4 of train_images in {storage.join(folder, 'set.npz')}"
    assert source.describe(4) == place
    for index in (-1, 5):
        with pytest.raises(IndexError):
            source[index]


def test_classes_agree_across_splits(tmp_path):
    train, val = (open_npz(tmp_path, split=split) for split in ("train", "val"))
    assert train.classes == val.classes and len(val) == 3
    assert val[0]["label"] == 3 and train.fingerprint != val.fingerprint


def test_names_are_given_or_known(tmp_path):
    named = open_npz(tmp_path, classes=("a", "b", "c", "d", "e"))
    assert named[0]["captions"] == ("c",) and len(named.classes) == 5
    known = open_npz(tmp_path, classes="retinamnist")
    assert known.classes == class_names("retinamnist")
    assert known.fingerprint != named.fingerprint


def test_grey_images_become_coloured(tmp_path):
    grey = arrays()["train_images"][..., 0]
    image = open_npz(tmp_path, arrays(train_images=grey))[1]["image"]
    assert image.shape == (4, 6, 3) and (image == grey[1][..., None]).all()
    np.testing.assert_array_equal(decode(image), image)


def test_images_of_several_classes(tmp_path):
    members = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1], [0, 0, 1]])
    content = arrays(train_labels=members, val_labels=members[:3])
    source = open_npz(tmp_path, content, classes=("mass", "edema", "hernia"))
    labels = [source.annotations(index)["label"] for index in range(5)]
    assert labels == [[0, 2], [], [1], [0, 1, 2], [2]]
    assert source[0]["captions"] == ("mass, hernia",)
    assert source[1]["captions"] == ("none of the classes",)
    np.testing.assert_array_equal(read_labels(source, 3), members.astype(bool))
    assert open_npz(tmp_path, content).classes == ("0", "1", "2")
    with pytest.raises(ClipinError, match="needs 3 classes, but .* has 4 names"):
        open_npz(tmp_path, content, classes=tuple("abcd"))


def test_labels_without_a_second_axis_and_of_truth_values(tmp_path):
    flat = arrays()["train_labels"][:, 0].astype(np.int64)
    source = open_npz(tmp_path, arrays(train_labels=flat))
    assert read_labels(source, 4).tolist() == [2, 0, 1, 1, 0]
    truth = np.array([[True], [False], [True], [False], [True]])
    source = open_npz(tmp_path, arrays(train_labels=truth))
    assert [source[n]["label"] for n in range(5)] == [1, 0, 1, 0, 1]


def test_a_pickled_source_has_only_the_file_name(tmp_path):
    source = open_npz(tmp_path, split="val")
    sent = pickle.dumps(source)
    other = pickle.loads(sent)
    assert len(sent) < 500 and other.fingerprint == source.fingerprint
    np.testing.assert_array_equal(other[1]["image"], source[1]["image"])


def test_the_fingerprint_is_of_the_content(tmp_path):
    before = open_npz(tmp_path).fingerprint
    assert open_npz(tmp_path, save=np.savez).fingerprint == before
    for name in ("train_images", "train_labels"):
        content = arrays()
        content[name][0] ^= 1
        assert open_npz(tmp_path, content).fingerprint != before


WIDE = np.zeros((5, 4, 6, 3))


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(train_labels=None), "has no array train_labels; add it"),
        (dict(val_labels=None), "has no array val_labels; add it"),
        (
            dict(train_images=None, val_images=None),
            "no array train_images; there are train_labels, val_labels",
        ),
        (
            dict(train_images=WIDE),
            r"train_images is float64 \[5, 4, 6, 3\]; it must be",
        ),
        (dict(train_images=np.zeros((5, 4, 6, 4), np.uint8)), "uint8 .* it must be"),
        (dict(train_images=np.zeros((5, 4), np.uint8)), r"uint8 \[5, 4\]"),
        (dict(train_images=np.zeros((0, 4, 4), np.uint8)), r"uint8 \[0, 4, 4\]"),
        (dict(train_labels=np.zeros((5, 1))), r"train_labels is float64 \[5, 1\]"),
        (dict(train_labels=np.zeros((5, 1, 1), int)), r"int64 \[5, 1, 1\]; it must be"),
        (dict(train_labels=np.zeros((4, 1), int)), "5 images, but .* 4 labels"),
        (dict(train_labels=np.full((5, 1), -1)), "from -1 to -1; .* at least 0"),
        (dict(train_labels=np.full((5, 2), 2)), "from 2 to 2; they must be 0 and 1"),
        (dict(val_labels=np.full((3, 1), -1)), "val_labels has labels from -1"),
    ],
)
def test_arrays_of_wrong_shapes(tmp_path, changes, message):
    with pytest.raises(ClipinError, match=message):
        open_npz(tmp_path, arrays(**changes))


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(split="valid"), "npz.split is 'valid': did you mean 'val'"),
        (dict(classes=("a", "b")), "needs 4 classes, but source.classes has 2 names"),
        (dict(classes=("a", "a", "b", "c")), "must be a list of different names"),
        (dict(classes=(1, 2, 3, 4)), "must be a list of different names"),
        (dict(classes="retinamnst"), "did you mean 'retinamnist'"),
        (dict(class_names=()), "did you mean 'classes'"),
    ],
)
def test_wrong_arguments(tmp_path, wrong, message):
    with pytest.raises(ClipinError, match=message):
        open_npz(tmp_path, **wrong)


def test_files_that_are_not_archives(folder):
    path = storage.join(folder, "set.npz")
    with pytest.raises(ClipinError, match="set.npz cannot be read .*source.file"):
        make_source(name="npz", file=path)
    open_npz(folder)
    whole = storage.read(path)
    objects = {"train_images": np.array([None]), "train_labels": np.array([1])}
    with pytest.raises(ClipinError, match="is not a valid .npz file .*allow_pickle"):
        open_npz(folder, objects)
    middle = len(whole) // 3
    damaged = whole[:middle] + bytes(99) + whole[middle + 99 :]
    for content in (b"", b"text", whole[: len(whole) // 2], damaged):
        with fsspec.open(path, "wb") as file:
            file.write(content)
        with pytest.raises(ClipinError, match="is not a valid .npz file"):
            make_source(name="npz", file=path)
    with fsspec.open(path, "wb") as file:
        np.save(file, np.zeros((3, 4, 4), np.uint8))
    with pytest.raises(ClipinError, match="is not a valid .npz file"):
        make_source(name="npz", file=path)


@pytest.mark.parametrize(
    "name, known, train, val",
    [
        ("retinamnist", "retinamnist", 1080, 120),
        ("breastmnist", "breastmnist", 546, 78),
        ("mnist_t10k", "mnist", 7000, 1000),
    ],
)
def test_real_sets(data_folder, name, known, train, val):
    path = str(data_folder / "npz" / f"{name}.npz")
    for split, count in (("train", train), ("val", val)):
        source = make_source(name="npz", file=path, split=split, classes=known)
        assert len(source) == count and source[count - 1]["image"].shape == (28, 28, 3)
        assert set(read_labels(source, len(source.classes)).tolist()) == set(
            range(len(source.classes))
        )
