from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.captioning import Captioning
from clipin_jax.evaluators.clip_benchmark import clip_benchmark_record
from tests.support.in_memory import STATE, function_encoder, gray_images

WORDS = ["", "red", "blue", "boat", "house", "dog", "on", "the", "lake", "<", ">"]
START, END = 9, 10
CAPTIONS = ["red boat on the lake", "the blue house", "dog on the lake"]
TOKENIZER = SimpleNamespace(
    start=START,
    end=END,
    context_length=16,
    encode=lambda text: [WORDS.index(word) for word in text.split()],
    decode=lambda ids: " ".join(WORDS[x] for x in ids),
)


def captioner(tokenizer, decoding):
    """Writes `CAPTIONS`, after the prompt and before padding."""
    if decoding.strategy == "mute":
        raise ClipinError("has nothing to say")
    rows = np.zeros((len(CAPTIONS), decoding.max_length), np.int32)
    for row, caption in zip(rows, CAPTIONS, strict=True):
        ids = [START, *tokenizer.encode(f"{decoding.prompt} {caption}"), END]
        row[: len(ids)] = ids

    def write(variables, image, index):
        return {"text": jnp.asarray(rows)[image[:, 0, 0, 0].astype(int)]}

    return write


@pytest.fixture(scope="module")
def encoder():
    def never(variables, x):
        return {}

    return function_encoder(
        image=never, text=never, captioner=captioner, tokenizer=TOKENIZER
    )


def test_captions_are_not_longer_than_the_context_by_default():
    lengths = []

    def captioner(tokenizer, decoding):
        lengths.append(decoding.max_length)
        return lambda variables, image, index: {}

    encoder = function_encoder(
        image=None, text=None, captioner=captioner, tokenizer=TOKENIZER
    )
    source = gray_images([["a"]])
    Captioning(encoder, source=source)
    Captioning(encoder, source=source, decoding={"max_length": 5})
    assert lengths == [16, 5]


@pytest.mark.parametrize("prompt", ["", "the red"])
def test_perfect_captions(encoder, prompt):
    source = gray_images([[caption] for caption in CAPTIONS])
    options = dict(prompt=prompt, max_length=12)
    evaluator = Captioning(encoder, source=source, batch_size=2, decoding=options)
    values = dict(evaluator.run(STATE))
    assert evaluator.captions == CAPTIONS
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
    source = gray_images(
        [["A dog.", f"The {caption}!", caption] for caption in CAPTIONS]
    )
    values = dict(Captioning(encoder, source=source).run(STATE))
    assert values["bleu_4"] == values["rouge_l"] == 1
    first = dict(Captioning(encoder, source=source, max_captions=1).run(STATE))
    assert first["rouge_l"] < 0.6


def test_some_captions_are_kept_with_their_references_and_the_decoding(encoder):
    source = gray_images([[caption, "Another one."] for caption in CAPTIONS])
    evaluator = Captioning(encoder, source=source, decoding={"max_length": 9})
    assert evaluator.written == {}
    list(evaluator.run(STATE))
    written = evaluator.written
    assert written["decoding"] == {
        "strategy": "greedy", "max_length": 9, "prompt": "", "no_repeat_ngram": 3
    }  # fmt: skip
    assert [entry["image"] for entry in written["captions"]] == [0, 1, 2]
    for entry, caption in zip(written["captions"], CAPTIONS, strict=True):
        assert entry["caption"] == caption
        assert entry["references"] == [caption, "Another one."]


def test_one_image_has_no_chance_beside_it(encoder):
    values = dict(Captioning(encoder, source=gray_images([CAPTIONS[:1]])).run(STATE))
    assert set(values) == {"bleu_4", "rouge_l", "cider_d", "distinct"}


def test_wrong_input_shows_before_training(encoder):
    source = gray_images([["a dog"]])
    with pytest.raises(ClipinError, match="record 1, image 1, has no caption"):
        Captioning(encoder, source=gray_images([["a"], []]))
    with pytest.raises(ClipinError, match="decoding.beam does not exist.*beams"):
        Captioning(encoder, source=source, decoding=dict(beam=3))
    with pytest.raises(ClipinError, match="has nothing to say"):
        Captioning(encoder, source=source, decoding=dict(strategy="mute"))
