"""Captions in a batch: cut or refused, cleaned, in Chinese."""

import json

import numpy as np
import pytest

from clipin_jax.data import make_source
from clipin_jax.data.pipeline import TrainBatches
from clipin_jax.data.text import caption_tokenizer
from clipin_jax.errors import ClipinError
from tests.data.test_pipeline import batches_of, config
from tests.data.test_samples import images as images

SHORT, LONG = "It's red/blue!", "a b c d e f g h"


@pytest.fixture
def folder(images):
    """40 images; the caption of every fourth has eight words."""
    path = images / "captions_train.json"
    content = json.loads(path.read_text())
    for entry in content["annotations"]:
        entry["caption"] = SHORT if entry["image_id"] % 4 else LONG
    path.write_text(json.dumps(content))
    return images


def data_of(folder, **changes):
    source = dict(name="coco", folder=str(folder))
    return config(source=source, context_length=8, shuffle=False, **changes)


@pytest.mark.parametrize("views, processes", [(1, 0), (2, 0), (2, 1)])
def test_the_share_of_cut_captions(folder, views, processes):
    data = data_of(folder, views=views, processes=processes)
    batches = TrainBatches(data, seed=0, batch_size=10)
    assert batches.cut_captions == 0
    shares = []
    for _ in range(4):
        batch = next(batches)
        assert "cut_share" not in batch
        shares.append(batches.cut_captions)
    batches.close()
    assert shares == pytest.approx([0.3, 0.2, 0.3, 0.2])


@pytest.mark.parametrize("settings", [dict(threads=0), dict(), dict(processes=1)])
def test_long_captions_may_stop_the_run(folder, settings):
    data = data_of(folder, long_captions="error", **settings)
    message = "a caption has 10 tokens .* data.context_length 8: 'a b c d"
    with pytest.raises(ClipinError, match=message):
        batches_of(1, data)
    data.update(context_length=10, processes=0)
    batches_of(4, data, batch_size=10)


def test_wrong_options(folder):
    for changes, message in (
        (dict(long_captions="drop"), "data.long_captions is 'drop'"),
        (dict(caption_cleaning="delete"), "data.caption_cleaning is 'delete'"),
        (dict(caption_words=-1), "data.caption_words is -1"),
    ):
        with pytest.raises(ClipinError, match=message):
            TrainBatches(data_of(folder, **changes), seed=0, batch_size=4)


def test_captions_are_cleaned(folder):
    data = data_of(folder, caption_cleaning="delete_punctuation", caption_words=3)
    plain = caption_tokenizer(data_of(folder))
    [batch], _ = batches_of(1, data, batch_size=8)
    expected = plain(["a b c", *["its red blue"] * 3] * 2)
    assert (batch["view1"]["text"] == expected).all()
    assert not caption_tokenizer(data).is_cut(LONG) and plain.is_cut(LONG)


def test_chinese_captions(data_folder):
    source = dict(
        name="coco",
        folder=str(data_folder / "captions" / "noto_emoji"),
        captions="captions_{split}_zh.json",
        labels="category",
    )
    vocabulary = str(data_folder / "tokenizers" / "bert-base-chinese-vocab.txt")
    train = make_source(**source)
    assert (len(train), len(make_source(**source, split="val"))) == (1168, 141)
    assert len(train.classes) == 10
    data = config(
        source=source,
        context_length=32,
        tokenizer=dict(name="wordpiece", vocabulary=vocabulary),
    )
    [batch], _ = batches_of(1, data, batch_size=32)
    tokenizer = caption_tokenizer(data)
    for index, row in zip(batch["index"], batch["view1"]["text"], strict=True):
        captions = train.annotations(int(index))["captions"]
        inside = row[1 : int(np.argmax(row == tokenizer.end))]
        assert tokenizer.decode(inside) in [
            tokenizer.decode(tokenizer.encode(text)[:30]) for text in captions
        ]
    captions = [c for n in range(len(train)) for c in train.annotations(n)["captions"]]
    rows = tokenizer(captions)
    unknown = tokenizer.encode("\U0001f603")[0]
    assert (rows == unknown).sum() < 0.01 * (rows > 0).sum()
    assert np.mean([tokenizer.is_cut(text) for text in captions]) < 0.05
