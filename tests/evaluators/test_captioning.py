from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.core import sharding
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators import clip_benchmark_record
from clipin_jax.evaluators.captioning import Captioning
from clipin_jax.inference.encoder import Encoder

WORDS = ["", "red", "blue", "boat", "house", "dog", "on", "the", "lake", "<", ">"]
START, END = 9, 10
STATE = SimpleNamespace(variables={})
SAID = ["red boat on the lake", "the blue house", "dog on the lake"]
TOKENIZER = SimpleNamespace(
    start=START,
    end=END,
    encode=lambda text: [WORDS.index(word) for word in text.split()],
    decode=lambda ids: " ".join(WORDS[x] for x in ids),
)


class Pictures(list):
    """A source in memory; the grey of a picture is its number."""

    classes = ()
    fingerprint = "pictures"

    def annotations(self, index):
        return self[index]

    def describe(self, index):
        return "in memory"


def pictures(captions):
    return Pictures(
        {"image": np.full((8, 8, 3), i, np.uint8), "captions": tuple(own)}
        for i, own in enumerate(captions)
    )


def captioner(tokenizer, decoding):
    """Says `SAID`, with the prompt before it and padding behind."""
    if decoding.strategy == "mute":
        raise ClipinError("has nothing to say")
    rows = np.zeros((len(SAID), decoding.max_length), np.int32)
    for row, caption in zip(rows, SAID, strict=True):
        ids = [START, *tokenizer.encode(f"{decoding.prompt} {caption}"), END]
        row[: len(ids)] = ids

    def write(variables, image, index):
        return {"text": jnp.asarray(rows)[image[:, 0, 0, 0].astype(int)]}

    return write


@pytest.fixture(scope="module")
def encoder():
    def never(variables, x):
        return {}

    return Encoder(
        SimpleNamespace(image=never, text=never, captioner=captioner),
        mesh=sharding.make_mesh(data=-1, fsdp=1),
        tokenizer=TOKENIZER,
        image_size=(8, 8),
        interpolation="bicubic",
    )


@pytest.mark.parametrize("prompt", ["", "the red"])
def test_perfect_captions(encoder, prompt):
    source = pictures([[caption] for caption in SAID])
    options = dict(prompt=prompt, max_length=12)
    evaluator = Captioning(encoder, source=source, batch_size=2, decoding=options)
    values = dict(evaluator.run(STATE))
    assert evaluator.captions == SAID
    assert values["bleu_4"] == values["rouge_l"] == values["distinct"] == 1
    assert values["cider_d"] > 5
    for name in ("bleu_4", "rouge_l", "cider_d"):
        assert values[f"chance/{name}"] < values[name] / 2
    assert all(type(value) is float for value in values.values())
    record = clip_benchmark_record(
        evaluator, values, dataset="d", model="m", pretrained="p"
    )
    assert record["task"] == "captioning"
    assert set(record["metrics"]) == {"Bleu_4", "ROUGE_L", "CIDEr"}


def test_the_best_of_several_references_counts(encoder):
    source = pictures([["A dog.", f"The {caption}!", caption] for caption in SAID])
    values = dict(Captioning(encoder, source=source).run(STATE))
    assert values["bleu_4"] == values["rouge_l"] == 1
    first = dict(Captioning(encoder, source=source, max_captions=1).run(STATE))
    assert first["rouge_l"] < 0.6


def test_one_image_has_no_chance_beside_it(encoder):
    values = dict(Captioning(encoder, source=pictures([SAID[:1]])).run(STATE))
    assert set(values) == {"bleu_4", "rouge_l", "cider_d", "distinct"}


def test_wrong_input_shows_before_training(encoder):
    source = pictures([["a dog"]])
    with pytest.raises(ClipinError, match="record 1, in memory, has no caption"):
        Captioning(encoder, source=pictures([["a"], []]))
    with pytest.raises(ClipinError, match="decoding.beam does not exist.*beams"):
        Captioning(encoder, source=source, decoding=dict(beam=3))
    with pytest.raises(ClipinError, match="has nothing to say"):
        Captioning(encoder, source=source, decoding=dict(strategy="mute"))
