"""Samples from images that may be bad, and the samples of evaluation."""

import json

import cv2
import numpy as np
import pytest

from clipin_jax.data import make_source
from clipin_jax.data.bad_records import exceeds
from clipin_jax.data.evaluation_batches import eval_batches
from clipin_jax.data.pipeline import TrainBatches
from clipin_jax.errors import ClipinError
from tests.data.test_pipeline import config


@pytest.fixture
def images(tmp_path):
    """A COCO folder of 40 images whose grey level is 5 times their index."""
    (tmp_path / "images").mkdir()
    images = [{"id": n, "file_name": f"{n:02}.png"} for n in range(40)]
    captions = [{"image_id": n, "caption": f"number {n}"} for n in range(40)]
    for n, entry in enumerate(images):
        image = np.full((20, 24, 3), 5 * n, np.uint8)
        assert cv2.imwrite(str(tmp_path / "images" / entry["file_name"]), image)
    text = json.dumps(dict(images=images, annotations=captions))
    (tmp_path / "captions_train.json").write_text(text)
    return tmp_path


def spoil(folder, *numbers):
    for number in numbers:
        (folder / "images" / f"{number:02}.png").write_bytes(b"no image")


def plain_config(folder, **changes):
    data = config(
        source=dict(name="coco", folder=str(folder)), shuffle=False, **changes
    )
    data.augment.update(brightness=0.0, contrast=0.0)
    return data


@pytest.mark.parametrize("processes", [0, 1])
def test_bad_images_are_replaced_by_the_next_and_counted(images, processes):
    spoil(images, 3, 4, 39)
    data = plain_config(images, max_bad_fraction=0.5, processes=processes)
    batches = TrainBatches(data, seed=0, batch_size=20)
    first, second = next(batches), next(batches)
    assert batches.bad_records == 3
    batches.close()
    assert first["index"].tolist() == [0, 1, 2, 5, 5, *range(5, 20)]
    assert second["index"].tolist() == [*range(20, 39), 0]
    assert abs(float(first["view1"]["image"][3].mean()) - 25) < 2
    assert (first["view1"]["text"][3] == first["view1"]["text"][5]).all()


def test_too_many_bad_images_stop_the_run(images):
    spoil(images, 7, 17)
    batches = TrainBatches(plain_config(images), seed=0, batch_size=20)
    # Two of 40 are more than 1 %, whatever comes later.
    with pytest.raises(ClipinError, match=r"2 of 20 records .*record 17, .*17\.png: "):
        next(batches)
    batches.close()


def test_a_run_of_bad_records_is_counted_once_and_left_quickly(images):
    spoil(images, *range(4, 20))
    data = plain_config(images, max_bad_fraction=0.4)
    batches = TrainBatches(data, seed=0, batch_size=20)
    used = next(batches)["index"].tolist()
    next(batches)
    assert batches.bad_records == 16
    batches.close()
    replacements = used[4:]
    assert all(index in (*range(4), *range(20, 40)) for index in replacements)
    assert max(map(replacements.count, replacements)) <= 5  # not 16


@pytest.mark.parametrize("share, limit", [(0.008, 0.01), (0.01, 0.01), (0.0, 0.0)])
def test_a_share_within_the_limit_stops_no_run(share, limit):
    rng, total = np.random.default_rng(0), 20_000
    is_bad = np.zeros(total, bool)
    is_bad[: round(share * total)] = True
    for _ in range(200):
        order = [rng.permutation(total) for _ in range(2)]
        bad = np.cumsum(is_bad[np.concatenate(order)])
        for read in (1, 2, 5, *range(16, 2 * total + 1, 496)):
            count = int(bad[read - 1])
            assert not exceeds(limit, bad=count, read=read, total=total)


@pytest.mark.parametrize(
    "share, limit, most", [(0.03, 0.01, 4000), (0.011, 0.01, 20_000), (0.2, 0.01, 200)]
)
def test_a_share_above_the_limit_stops_the_run_within_an_epoch(share, limit, most):
    rng, total = np.random.default_rng(0), 20_000
    is_bad = np.zeros(total, bool)
    is_bad[: round(share * total)] = True
    for _ in range(50):
        bad = np.cumsum(is_bad[rng.permutation(total)])
        reads = range(16, total + 1, 16)
        stops = (
            read
            for read in reads
            if exceeds(limit, bad=int(bad[read - 1]), read=read, total=total)
        )
        assert next(stops) <= most


def test_few_bad_images_are_tolerated(images):
    spoil(images, 7)
    data = plain_config(images, max_bad_fraction=0.03)
    batches = TrainBatches(data, seed=0, batch_size=20)
    for _ in range(10):
        next(batches)
    assert batches.bad_records == 5
    batches.close()


def test_only_bad_images_stop_at_once(images):
    spoil(images, *range(40))
    data = plain_config(images, max_bad_fraction=1.0)
    with pytest.raises(ClipinError, match="first 40 .*40 times: UnidentifiedImageErr"):
        TrainBatches(data, seed=0, batch_size=20)


@pytest.mark.parametrize("processes", [0, 1])
def test_a_hundred_bad_images_in_a_row_stop_the_run(images, processes):
    data = plain_config(images, max_bad_fraction=1.0, processes=processes)
    batches = TrainBatches(data, seed=0, batch_size=20)
    spoil(images, *range(40))
    match = "no good record .*record .*png: UnidentifiedImageError"
    with pytest.raises(ClipinError, match=match):
        next(batches)
    batches.close()


def bad_records_of(images, path, count=2):
    data = plain_config(images, max_bad_fraction=0.5)
    batches = TrainBatches(data, seed=0, batch_size=20, bad_records=path)
    for _ in range(count):
        next(batches)
    batches.close()
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_bad_records_are_listed_once_with_their_reason(images, tmp_path):
    spoil(images, 3, 4)
    (images / "images" / "07.png").write_bytes(b"")
    path = tmp_path / "bad_records.jsonl"
    entries = bad_records_of(images, path, count=4)
    assert [entry["index"] for entry in entries] == [3, 4, 7]
    assert entries[0]["where"].endswith("03.png")
    assert "UnidentifiedImageError" in entries[0]["reason"]
    assert entries[2]["reason"] == "the file is empty"
    # The next start of the run goes on with the list, whatever a crash left of it.
    path.write_text(path.read_text() + '{"index": 9, "wh')
    spoil(images, 11)
    entries = bad_records_of(images, path)
    assert [entry["index"] for entry in entries] == [3, 4, 7, 11]
    path.write_text("what is this\n")
    with pytest.raises(ClipinError, match="damaged at 'what is this'"):
        bad_records_of(images, path)


def test_an_image_that_is_deleted_is_bad(images):
    data = plain_config(images, max_bad_fraction=0.5)
    batches = TrainBatches(data, seed=0, batch_size=20)
    (images / "images" / "02.png").unlink()
    assert next(batches)["index"].tolist() == [0, 1, 3, *range(3, 20)]
    assert batches.bad_records == 1
    batches.close()


def evaluate(source, batch_size=4, share=(0, 1)):
    return list(
        eval_batches(
            source,
            image_size=(16, 24),
            interpolation="bicubic",
            batch_size=batch_size,
            process_index=share[0],
            process_count=share[1],
        )
    )


def test_evaluation_drops_no_sample():
    source = make_source(name="scenes", length=10)
    batches = evaluate(source)
    assert [batch["image"].shape for batch in batches] == [(4, 16, 24, 3)] * 3
    assert batches[0]["image"].dtype == np.uint8 and batches[0]["mask"].dtype == bool
    index = np.concatenate([batch["index"] for batch in batches])
    mask = np.concatenate([batch["mask"] for batch in batches])
    assert index.tolist() == [*range(10), 0, 0] and index.dtype == np.int64
    assert mask.tolist() == [True] * 10 + [False] * 2
    assert (batches[2]["image"][2:] == 0).all() and batches[2]["image"][:2].any()
    assert len(evaluate(source, batch_size=64)) == 1
    assert len(evaluate(source, batch_size=5)) == 2


def test_evaluation_in_shares():
    source = make_source(name="scenes", length=10)
    whole = evaluate(source)
    shares = [evaluate(source, share=(process, 2)) for process in range(2)]
    for batch, first, second in zip(whole, *shares, strict=True):
        for key in batch:
            both = np.concatenate([first[key], second[key]])
            np.testing.assert_array_equal(both, batch[key])


def test_evaluation_refuses_bad_images(images):
    spoil(images, 5)
    source = make_source(name="coco", folder=str(images))
    with pytest.raises(ClipinError, match=r"record 5, .*05\.png, cannot be decoded"):
        evaluate(source)
    with pytest.raises(ClipinError, match="2 processes"):
        evaluate(source, batch_size=5, share=(0, 2))


def test_evaluation_may_stop_early():
    batches = eval_batches(
        make_source(name="scenes", length=40),
        image_size=(16, 16),
        interpolation="bilinear",
        batch_size=4,
    )
    assert next(batches)["mask"].all()
    batches.close()
