"""Token masking: rates, ids that are never masked, determinism by position."""

import json
import math

import numpy as np
import pytest

from clipin_jax.data.pipeline import TrainBatches
from clipin_jax.data.text.masking import NOT_PREDICTED, mask_tokens
from clipin_jax.errors import ClipinError
from tests.data.test_pipeline import assert_equal, batches_of, config

FACTS = dict(probability=0.15, mask_id=4, vocab_size=1000, never_masked=(0, 2))
MASKED = ("masked_text", "masked_labels")


def masked_config(**changes):
    return config(
        **{"tokenizer": dict(name="wordpiece"), "mask_probability": 0.15, **changes}
    )


def masks_of(batches):
    views = [batch[key] for batch in batches for key in ("view1", "view2")]
    return [np.concatenate([view[name] for view in views]) for name in MASKED]


def assert_share(count, total, share):
    """Within five standard deviations of a binomial: fails once in a million."""
    assert abs(count - total * share) < 5 * math.sqrt(total * share * (1 - share))


def test_rates():
    rng = np.random.default_rng(0)
    ids = rng.integers(500, 1000, 100_000)
    out = mask_tokens(ids, rng, **FACTS)
    text, labels = out["masked_text"], out["masked_labels"]
    assert text.dtype == labels.dtype == np.int32
    predicted = labels != NOT_PREDICTED
    count = int(predicted.sum())
    assert (labels[predicted] == ids[predicted]).all()
    assert (text[~predicted] == ids[~predicted]).all()
    assert_share(count, len(ids), 0.15)
    assert_share((text[predicted] == 4).sum(), count, 0.8 + 0.1 / 1000)
    assert_share((text[predicted] == ids[predicted]).sum(), count, 0.1 + 0.1 / 1000)
    others = text[predicted & (text != 4) & (text != ids)]
    assert_share((others < 500).sum(), len(others), 0.5)
    assert others.min() < 50 and others.max() > 950


def test_padding_and_start_are_never_masked():
    ids = np.tile([2, 7, 8, 3, 0, 0], 2000)
    out = mask_tokens(ids, np.random.default_rng(0), **{**FACTS, "probability": 0.5})
    is_masked = out["masked_labels"] != NOT_PREDICTED
    assert not is_masked[np.isin(ids, (0, 2))].any()
    assert (out["masked_text"][~is_masked] == ids[~is_masked]).all()
    assert_share(is_masked[ids == 3].sum(), 2000, 0.5)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_nothing_or_everything_is_masked(probability):
    ids = np.arange(5, 400)
    facts = {**FACTS, "probability": probability}
    labels = mask_tokens(ids, np.random.default_rng(0), **facts)["masked_labels"]
    assert (labels == (ids if probability else NOT_PREDICTED)).all()


def test_always_the_same_number_of_draws():
    streams = [np.random.default_rng(0) for _ in range(2)]
    for rng, word in zip(streams, (0, 7), strict=True):
        mask_tokens(np.full(20, word), rng, **FACTS)
    assert streams[0].random() == streams[1].random()


def test_masks_do_not_change_other_draws():
    plain, _ = batches_of(3, masked_config(mask_probability=0.0))
    masked, _ = batches_of(3, masked_config())
    assert masked[0]["view1"].keys() >= {"image", "text", *MASKED}
    assert masked[0]["view2"]["masked_text"].shape == (12, 20)
    assert masked[0]["view2"]["masked_labels"].dtype == np.int32
    assert_equal(plain, masked)
    for batch in masked:
        for view in (batch["view1"], batch["view2"]):
            is_masked = view["masked_labels"] != NOT_PREDICTED
            assert is_masked.any() and not is_masked[:, 0].any()
            assert (view["masked_labels"][is_masked] == view["text"][is_masked]).all()
            assert not is_masked[view["text"] == 0].any()
    one, _ = batches_of(3, masked_config(views=1))
    for batch, both in zip(one, masked, strict=True):
        for name in MASKED:
            assert (batch["view1"][name] == both["view1"][name]).all()


def test_masks_follow_from_seed_and_position():
    whole, _ = batches_of(6, masked_config())
    _, state = batches_of(2, masked_config())
    state = json.loads(json.dumps(state))
    rest, _ = batches_of(4, masked_config(processes=1), start=state)
    for one, other in zip(masks_of(whole[2:]), masks_of(rest), strict=True):
        assert (one == other).all()
    other, _ = batches_of(6, masked_config(), seed=4)
    assert (masks_of(other)[1] != masks_of(whole)[1]).any()
    # In the next epoch the same captions are masked elsewhere.
    data = masked_config(shuffle=False, views=1, second_text="same")
    epochs, _ = batches_of(8, data)
    # 50 records: the second epoch begins with row 2 of batch 4.
    first = {key: value[:-2] for key, value in epochs[0]["view1"].items()}
    second = {key: value[2:] for key, value in epochs[4]["view1"].items()}
    same = (first["text"] == second["text"]).all(axis=1)
    assert same.any()
    assert (first["masked_labels"][same] != second["masked_labels"][same]).any()


def test_one_caption_is_masked_alike_in_both_views():
    """So the target's features of view 2 match the masked tokens of view 1."""
    batches, _ = batches_of(2, masked_config(second_text="same"))
    for name in ("text", *MASKED):
        assert (batches[0]["view1"][name] == batches[0]["view2"][name]).all()


def test_errors():
    for data, message in (
        (config(mask_probability=0.15), "data.mask_probability is 0.15, .*wordpiece"),
        (masked_config(mask_probability=1.5), "data.mask_probability is 1.5"),
        (masked_config(mask_probability=-0.1), "data.mask_probability is -0.1"),
    ):
        with pytest.raises(ClipinError, match=message):
            TrainBatches(data, seed=0, batch_size=4)
