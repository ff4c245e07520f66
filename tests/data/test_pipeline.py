"""Batches: equal for any threads and processes, bit-equal after a resume."""

import json
import threading
import time

import numpy as np
import pytest
from ml_collections import ConfigDict

from clipin_jax.data import make_source
from clipin_jax.data.pipeline import TrainBatches
from clipin_jax.errors import ClipinError

LENGTH, BATCH = 50, 12


def config(**changes):
    augment = dict(
        crop_scale=(0.5, 1.0),
        crop_ratio=(0.8, 1.25),
        resize_first=0,
        flip=0.5,
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
        hue=0.1,
        jitter_probability=0.8,
        grayscale=0.1,
        blur=0.2,
        blur_sigma=(0.1, 2.0),
        transforms={},
        interpolation="bicubic",
    )
    return ConfigDict(
        dict(
            dict(
                source=dict(name="scenes", length=LENGTH, size=32),
                image_size=(16, 24),
                context_length=20,
                tokenizer=dict(name="bpe"),
                views=2,
                second_text="another",
                caption_cleaning="",
                caption_words=0,
                long_captions="cut",
                caption_weights=(),
                mask_probability=0.0,
                shuffle=True,
                shuffle_block=0,
                augment_on="host",
                augment=augment,
                threads=2,
                processes=0,
                prefetch_batches=2,
                max_pixels=80_000_000,
                max_bad_fraction=0.01,
                allow_change=False,
            ),
            **changes,
        )
    )


def batches_of(count, data=None, *, seed=3, batch_size=BATCH, share=(0, 1), start=None):
    """Returns the first batches (after a state), and the state after them."""
    batches = TrainBatches(
        data or config(),
        seed=seed,
        batch_size=batch_size,
        process_index=share[0],
        process_count=share[1],
    )
    try:
        if start is not None:
            batches.set_state(start)
        return [next(batches) for _ in range(count)], batches.get_state()
    finally:
        batches.close()


def assert_equal(first, second):
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        np.testing.assert_array_equal(one["index"], other["index"])
        for view in one.keys() - {"index"}:
            for part in ("image", "text"):
                np.testing.assert_array_equal(one[view][part], other[view][part])


def test_batches():
    (batch, _), state = batches_of(2)
    assert batch.keys() == {"view1", "view2", "index"}
    for view in ("view1", "view2"):
        assert batch[view]["image"].shape == (BATCH, 16, 24, 3)
        assert batch[view]["image"].dtype == np.uint8
        assert batch[view]["text"].shape == (BATCH, 20)
        assert batch[view]["text"].dtype == np.int32
    assert batch["index"].dtype == np.int64
    assert (
        (batch["view1"]["image"] != batch["view2"]["image"]).any(axis=(1, 2, 3)).all()
    )
    assert state["position"] == 2 * BATCH and json.loads(json.dumps(state)) == state


def test_captions_belong_to_their_image():
    data = config()
    source, rows = make_source(**data.source), {}
    batches = TrainBatches(data, seed=0, batch_size=BATCH)
    for index in range(LENGTH):
        captions = source.annotations(index)["captions"]
        rows[index] = {row.tobytes() for row in batches.tokenizer(captions)}
    batch = next(batches)
    batches.close()
    for view in ("view1", "view2"):
        for index, text in zip(batch["index"], batch[view]["text"], strict=True):
            assert text.tobytes() in rows[int(index)]


def test_second_view_and_text():
    another, _ = batches_of(2)
    same, _ = batches_of(2, config(second_text="same"))
    one_view, _ = batches_of(2, config(views=1))
    for two, copied, one in zip(another, same, one_view, strict=True):
        differs = (two["view1"]["text"] != two["view2"]["text"]).any(axis=1)
        # Two of the five captions may well be the same sentence.
        assert differs.mean() > 0.7
        assert (copied["view1"]["text"] == copied["view2"]["text"]).all()
        # What the first view shows does not depend on the second.
        assert one.keys() == {"view1", "index"}
        assert_equal(
            [{"view1": two["view1"], "index": two["index"]}],
            [{"view1": copied["view1"], "index": copied["index"]}],
        )
        assert_equal([{"view1": two["view1"], "index": two["index"]}], [one])


def test_epochs_are_consecutive_permutations():
    batches, _ = batches_of(9)
    order = np.concatenate([batch["index"] for batch in batches]).tolist()
    epochs = order[:LENGTH], order[LENGTH : 2 * LENGTH]
    for epoch in epochs:
        assert sorted(epoch) == list(range(LENGTH))
    assert epochs[0] != epochs[1]
    other_seed, _ = batches_of(4, seed=4)
    assert other_seed[0]["index"].tolist() != epochs[1][:BATCH]


def test_batches_of_one():
    [batch, _], _ = batches_of(2, batch_size=1)
    assert batch["view1"]["image"].shape == (1, 16, 24, 3)


def test_views_differ_in_each_epoch_without_shuffling():
    batches, _ = batches_of(5, config(shuffle=False))
    assert batches[1]["index"].tolist() == list(range(12, 24))
    assert batches[4]["index"].tolist() == [48, 49, *range(10)]
    same_record = [batches[0]["view1"]["image"][0], batches[4]["view1"]["image"][2]]
    assert (same_record[0] != same_record[1]).any()


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_threads_do_not_change_the_batches(threads):
    assert_equal(batches_of(5)[0], batches_of(5, config(threads=threads))[0])


def test_processes_share_the_same_global_batches():
    def bits(batch):
        return {
            (int(index), first.tobytes(), second.tobytes())
            for index, first, second in zip(
                batch["index"],
                batch["view1"]["image"],
                batch["view2"]["text"],
                strict=True,
            )
        }

    alone, _ = batches_of(5)
    shares = [batches_of(5, share=(process, 3)) for process in range(3)]
    assert len({json.dumps(state) for _, state in shares}) == 1
    for number, batch in enumerate(alone):
        parts = [bits(batches[number]) for batches, _ in shares]
        assert [len(part) for part in parts] == [4, 4, 4]
        assert set.union(*parts) == bits(batch)


@pytest.mark.parametrize("taken", [0, 1, 4, 7])
def test_a_resumed_run_is_bit_equal(taken):
    whole, _ = batches_of(9)
    _, state = batches_of(taken)
    rest, end = batches_of(9 - taken, start=state)
    assert_equal(whole[taken:], rest)
    assert end["position"] == 9 * BATCH


def test_setting_the_state_while_running():
    batches = TrainBatches(config(), seed=3, batch_size=BATCH)
    first = [next(batches) for _ in range(2)]
    state = batches.get_state()
    later = [next(batches) for _ in range(2)]
    batches.set_state(state)
    assert_equal(later, [next(batches) for _ in range(2)])
    batches.close()
    assert first[0]["index"].tolist() != later[0]["index"].tolist()


def test_worker_processes_change_nothing_and_resume():
    whole, _ = batches_of(5)
    _, state = batches_of(2)
    data = config(processes=2, threads=1)
    assert_equal(whole[2:], batches_of(3, data, start=state)[0])


def test_closing_stops_threads():
    batches = TrainBatches(config(threads=4), seed=0, batch_size=BATCH)
    next(batches)
    batches.close()
    deadline = time.monotonic() + 10
    while any("grain" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_state_of_another_run_is_refused():
    _, state = batches_of(1)
    for key, wrong in (("fingerprint", "other"), ("seed", 4), ("batch_size", 6)):
        with pytest.raises(ClipinError, match=f"another {key}"):
            batches_of(1, start={**state, key: wrong})


@pytest.mark.parametrize(
    "arguments, changes, message",
    [
        (dict(batch_size=51), {}, "batch_size is 51, .* only 50 records"),
        (dict(batch_size=0), {}, "batch_size is 0"),
        (dict(share=(0, 5)), {}, "5 processes cannot share equally"),
        (dict(share=(2, 2)), {}, "no process 2 among 2"),
        (dict(seed=-1), {}, "seed is -1"),
        ({}, dict(views=3), "data.views is 3"),
        ({}, dict(resize="crop"), "data.resize is 'crop'"),
        ({}, dict(second_text="none"), "data.second_text is 'none'"),
        ({}, dict(threads=-1), "data.threads is -1"),
        ({}, dict(processes=10**9), "data.processes is .* at most 1024"),
        ({}, dict(tokenizer=dict(name="bp")), "did you mean 'bpe'"),
        ({}, dict(source=dict(name="coc")), "did you mean 'coco'"),
    ],
)
def test_wrong_arguments(arguments, changes, message):
    with pytest.raises(ClipinError, match=message):
        batches_of(1, config(**changes), **arguments)


def test_real_images(data_folder):
    folder = str(data_folder / "captions" / "ucm")
    data = config(source=dict(name="coco", folder=folder))
    batches = TrainBatches(data, seed=0, batch_size=32)
    assert batches.examples_per_epoch == 1464
    assert next(batches)["view1"]["image"].std() > 10
    assert batches.bad_records == 0
    batches.close()
