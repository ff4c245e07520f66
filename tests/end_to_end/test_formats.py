"""Real data written in each format gives equal pairs and bit-equal training."""

import contextlib

import jax
import numpy as np
import pytest

from clipin_jax.config import load_config
from clipin_jax.core import sharding
from clipin_jax.core.step import make_train_step
from clipin_jax.data import make_source
from clipin_jax.data.pipeline import TrainBatches
from clipin_jax.runs.build import build_experiment
from tests.support.format_writers import WRITERS, Pair, write_pairs

RECORDS, STEPS = 64, 3
WITHOUT_LABELS = ("auto", "karpathy", "muge")
# Class folders reorder pairs and replace captions, so they have a test of their own.
FORMATS = [name for name in WRITERS if name != "image_folder"]
TINY = (
    "batch_size=16",
    "model.image.width=32",
    "model.image.depth=1",
    "model.text.width=32",
    "model.text.depth=1",
    "model.text.context_length=16",
)


def read_captioned(folder, name):
    """Returns pairs spread over a data set with captions, and its class names."""
    labels = None if name == "fsa_photos" else "category"
    where = str(folder / "captions" / name)
    source = make_source(name="coco", folder=where, labels=labels)
    return read_pairs(source), source.classes or ("one", "two")


def read_classified(folder, name):
    where = str(folder / "classification" / name)
    source = make_source(name="image_folder", folder=where, split="train")
    return read_pairs(source), source.classes


def read_pairs(source):
    chosen = np.linspace(0, len(source) - 1, RECORDS).astype(int)
    records = [source[int(index)] for index in chosen]
    return [
        Pair(record["image"], record["captions"], record.get("label", number % 2))
        for number, record in enumerate(records)
    ]


SETS = {
    "ucm": read_captioned,
    "noto_emoji": read_captioned,
    "fsa_photos": read_captioned,
    "clothing": read_classified,
}


@pytest.fixture(scope="module", params=SETS)
def pairs(request, data_folder):
    return SETS[request.param](data_folder, request.param)


@pytest.fixture(scope="module")
def ucm(data_folder):
    return read_captioned(data_folder, "ucm")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_pairs(pairs, tmp_path, name):
    expected, classes = pairs
    source = make_source(**write_pairs(name, tmp_path / "data", expected, classes))
    assert len(source) == len(expected)
    for index, pair in enumerate(expected):
        record, annotations = source[index], source.annotations(index)
        assert bytes(record["image"]) == pair.image
        assert (
            tuple(record["captions"]) == tuple(annotations["captions"]) == pair.captions
        )
        if name not in WITHOUT_LABELS:
            assert record["label"] == annotations["label"] == pair.label
    if name not in WITHOUT_LABELS:
        assert tuple(source.classes) == tuple(classes)


def test_class_folders_give_the_same_pairs(data_folder, tmp_path):
    expected, classes = read_classified(data_folder, "clothing")
    source = make_source(
        **write_pairs("image_folder", tmp_path / "data", expected, classes)
    )
    actual = [source[index] for index in range(len(source))]
    assert [Pair(**record) for record in actual] == expected
    assert source.classes == classes


@pytest.fixture(scope="module")
def losses_of():
    """A function from a source to the losses of the first steps; compiled once."""
    config = load_config("clip:runlocal", TINY)
    config.data.views = 1
    run = build_experiment(config, jax.devices()[:1])
    step = jax.jit(make_train_step(run.learner, run.optimizer))

    def losses(source):
        config.data.source = source
        batches = TrainBatches(config.data, seed=5, batch_size=config.batch_size)
        state, values = run.init_state(), []
        with contextlib.closing(batches), jax.set_mesh(run.mesh):
            for number in range(STEPS):
                batch = next(batches)
                batch.pop("index")
                placed = run.views(sharding.put(batch, run.mesh))
                state, metrics = step(state, placed, run.hyper(number))
                values.append(np.asarray(metrics["loss"]).tobytes())
        return values

    return losses


@pytest.fixture(scope="module")
def expected_losses(ucm, losses_of, tmp_path_factory):
    folder = tmp_path_factory.mktemp("expected") / "data"
    losses = losses_of(write_pairs("coco", folder, *ucm))
    assert len(set(losses)) == STEPS
    return losses


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "coco"])
def test_training_is_bit_equal(ucm, losses_of, expected_losses, tmp_path, name):
    source = write_pairs(name, tmp_path / "data", *ucm)
    assert losses_of(source) == expected_losses


def test_mixture_of_one_source_trains_like_that_source(
    ucm, losses_of, expected_losses, tmp_path
):
    source = write_pairs("webdataset", tmp_path / "data", *ucm)
    mixture = dict(name="mixture", sources=dict(one=dict(weight=2.0, **source)))
    assert losses_of(mixture) == expected_losses
