"""The embedded data set: reproducible, splits without overlap, its options."""

import cloudpickle
import numpy as np
import pytest

from clipin_jax.data import make_source
from clipin_jax.data.scenes.content import COLORS, SHAPES, content_id
from clipin_jax.data.scenes.text import COLOR_WORDS, SHAPE_WORDS, stock_sentence
from clipin_jax.data.sources.scenes import Scenes
from clipin_jax.errors import ClipinError

N = 600


def mentions(caption, words):
    return any(word in caption for word in words)


def names_all(scene, caption):
    return all(
        mentions(caption, SHAPE_WORDS[thing.shape])
        and mentions(caption, COLOR_WORDS[thing.color])
        for thing in scene.things
    )


def test_records():
    source = make_source(name="scenes", length=20, size=48, captions=4)
    record = source[7]
    assert len(source) == 20 and source.classes == ()
    assert record["image"].shape == (48, 48, 3)
    assert record["image"].dtype == np.uint8
    assert len(record["captions"]) == 4 and "label" not in record
    assert source.annotations(7)["captions"] == record["captions"]


def test_records_follow_from_the_index():
    first, longer = Scenes(length=30), Scenes(length=1000)
    copy = cloudpickle.loads(cloudpickle.dumps(first))
    for index in (29, 3):
        for other in (longer, copy):
            assert (other[index]["image"] == first[index]["image"]).all()
            assert other[index]["captions"] == first[index]["captions"]
    with pytest.raises(IndexError):
        first[30]


def test_streams_differ():
    images = [
        Scenes(split, seed=seed)[index]["image"].tobytes()
        for split in ("train", "val", "test")
        for seed in (0, 1)
        for index in (0, 1)
    ]
    assert len(set(images)) == len(images)


def test_splits_never_show_the_same_kind_of_scene():
    # Single objects: few kinds in all, so that any overlap would show.
    kinds = {
        split: {
            content_id(source.scene(index))
            for source in (Scenes(split, length=4 * N, objects=(1, 1)),)
            for index in range(4 * N)
        }
        for split in ("train", "val", "test")
    }
    assert not kinds["train"] & kinds["val"]
    assert not kinds["train"] & kinds["test"]
    assert not kinds["val"] & kinds["test"]


def test_held_out_pairs_appear_in_evaluation_only():
    held_out = set(Scenes.held_out)
    assert len(held_out) == 8
    assert {shape for shape, _ in held_out} == set(SHAPES)
    assert {color for _, color in held_out} == set(COLORS)
    for split, expected in (("train", set()), ("val", held_out), ("test", held_out)):
        source = Scenes(split, length=N)
        seen = {
            (thing.shape, thing.color)
            for index in range(N)
            for thing in source.scene(index).things
        }
        assert seen & held_out == expected
        assert len(seen - held_out) == 56


def test_scenes_are_varied():
    source = Scenes(length=N)
    scenes = [source.scene(index) for index in range(N)]
    counts = np.bincount([len(scene.things) for scene in scenes])[1:] / N
    assert (np.abs(counts - 1 / 3) < 0.06).all()
    assert {scene.background for scene in scenes} == set(range(40))
    for scene in scenes:
        assert len({thing.cell for thing in scene.things}) == len(scene.things)


def test_full_captions_name_every_object():
    source = Scenes(length=N)
    for index in range(N):
        for caption in source.annotations(index)["captions"]:
            assert names_all(source.scene(index), caption), caption


def test_looseness():
    def share(looseness):
        source = Scenes(length=N, looseness=looseness)
        full = [
            names_all(source.scene(index), caption)
            for index in range(N)
            for caption in source.annotations(index)["captions"]
        ]
        return 1 - np.mean(full)

    assert share(0.0) == 0
    assert abs(share(0.4) - 0.4) < 0.04
    assert share(1.0) > 0.95


def test_redundancy():
    def captions_at(redundancy):
        source = Scenes(length=N, redundancy=redundancy)
        return source, [source.annotations(index)["captions"] for index in range(N)]

    distinct = [
        len({caption for texts in captions_at(level)[1] for caption in texts})
        for level in (0.0, 0.5, 0.9, 1.0)
    ]
    assert distinct == sorted(distinct, reverse=True)
    assert distinct[0] > 2000 and distinct[-1] == 8
    source, texts = captions_at(0.5)
    stock = [
        set(captions) == {stock_sentence(source.scene(index))}
        for index, captions in enumerate(texts)
    ]
    assert abs(np.mean(stock) - 0.5) < 0.06


def test_shift():
    source = Scenes(length=N, shift=0.3)
    shifted = [source.scene(index).shifted for index in range(N)]
    assert abs(np.mean(shifted) - 0.3) < 0.05

    def colourfulness(index):
        return np.ptp(source[index]["image"].astype(int), axis=2).mean()

    usual = [colourfulness(index) for index in range(N) if not shifted[index]]
    strange = [colourfulness(index) for index in range(N) if shifted[index]]
    assert np.mean(strange) > 1.5 * np.mean(usual)
    assert not any(Scenes(length=N).scene(index).shifted for index in range(N))


@pytest.mark.parametrize("labels, classes", [("shape", SHAPES), ("color", COLORS)])
def test_labels(labels, classes):
    source = Scenes("val", length=N, labels=labels)
    assert source.classes == classes
    actual = []
    for index in range(N):
        (thing,) = source.scene(index).things
        label = source.annotations(index)["label"]
        assert classes[label] == getattr(thing, labels)
        actual.append(label)
    assert np.bincount(actual, minlength=8).min() > N / 8 / 2


def test_images_show_their_object():
    """The object's colour is at the object's cell."""
    source = Scenes(length=200, objects=(1, 1), size=96)
    reddish = []
    for index in range(200):
        (thing,) = source.scene(index).things
        if thing.color == "red" and thing.shape != "ring":
            row, column = (int(96 * (0.22 + 0.28 * n)) for n in divmod(thing.cell, 3))
            red, green, blue = source[index]["image"][row, column].astype(int)
            reddish.append(red > 120 and red > green + 60 and red > blue + 60)
    assert len(reddish) > 10 and all(reddish)


def test_fingerprints_differ():
    settings = [{}, dict(seed=1), dict(split="val"), dict(shift=0.5), dict(length=9)]
    prints = {Scenes(**setting).fingerprint for setting in settings}
    assert len(prints) == len(settings)
    assert Scenes().fingerprint == Scenes().fingerprint


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(split="training"), "did you mean 'train'"),
        (dict(labels="colour"), "did you mean 'color'"),
        (dict(length=0), "length is 0"),
        (dict(captions=0), "captions is 0"),
        (dict(size=8), "size is 8"),
        (dict(objects=(0, 2)), "objects is"),
        (dict(objects=(3, 2)), "objects is"),
        (dict(looseness=1.5), "looseness is 1.5"),
        (dict(redundancy=-1), "redundancy is -1"),
        (dict(seed=-1), "seed is -1"),
        (dict(lenght=5), "did you mean 'length'"),
        (dict(length="many"), "source 'scenes'"),
    ],
)
def test_wrong_arguments(wrong, message):
    with pytest.raises(ClipinError, match=message):
        make_source(name="scenes", **wrong)


def test_unknown_source():
    with pytest.raises(ClipinError, match="'scene': did you mean 'scenes'"):
        make_source(name="scene")
