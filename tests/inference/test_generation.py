"""Decoding against slow loops in numpy, on a tiny model with peaked distributions."""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from clipin_jax.core.learner import build
from clipin_jax.errors import ClipinError
from clipin_jax.inference.generation import Decoding, make_generate_fn, read_caption

VOCABULARY, LENGTH, START, END = 12, 9, 10, 11
LETTERS = "!abcdefghi<>"
TOKENIZER = SimpleNamespace(
    start=START,
    end=END,
    pad=0,
    vocab_size=VOCABULARY,
    context_length=LENGTH,
    encode=lambda text: [LETTERS.index(letter) for letter in text],
    decode=lambda ids: "".join(LETTERS[x] for x in ids),
)


class Tower:
    """A text tower whose logits depend on the last id, all ids so far and the image."""

    def __init__(self):
        self.weights = (
            np.random.default_rng(7)
            .normal(0, 1, (2 * VOCABULARY + 6, VOCABULARY + 1))
            .astype(np.float32)
        )

    def __call__(self, text, train=False):
        return {"tokens": jax.nn.one_hot(text, VOCABULARY)}

    def decode(self, text, text_tokens, image_tokens, train):
        before = jnp.cumsum(text_tokens, axis=1) / 4
        image = jnp.broadcast_to(image_tokens, (*text.shape, 6))
        return jnp.concatenate([text_tokens, before, image], -1) @ self.weights


class FakeLearner:
    """The part of a learner that `make_generate_fn` uses."""

    objectives = ("captioning",)

    def __init__(self):
        self.towers = SimpleNamespace(text=Tower())

    def encode(self, view):
        return {"image": {"tokens": jax.nn.one_hot(view["image"][:, 0, 0, :1], 6)}}

    def apply(self, variables, *args, method):
        return self.encode(*args) if method == "encode" else method(self, *args)


class Model:
    """A learner, its variables and images, and its log probabilities of single rows."""

    def __init__(self, learner, variables, images):
        self.learner, self.variables, self.images = learner, variables, images
        self.next_log_p = jax.jit(
            lambda *x: learner.apply(variables, *x, method=next_log_p)
        )

    def log_p(self, image: int, row: list[int]) -> np.ndarray:
        """[V] log probabilities of the id after a row; -inf for marks and padding."""
        text = np.zeros((1, LENGTH), np.int32)
        text[0, : len(row)] = row
        values = np.array(self.next_log_p(self.images[image : image + 1], text))[
            len(row) - 1
        ]
        values[[0, START, VOCABULARY]] = -np.inf
        return values

    def generate(self, images=slice(None), tokenizer=TOKENIZER, **options) -> tuple:
        options = dict(max_length=LENGTH, no_repeat_ngram=0) | options
        generate = make_generate_fn(self.learner, tokenizer, Decoding(**options))
        index = np.arange(len(self.images), dtype=np.int32)[images]
        out = jax.jit(generate)(self.variables, self.images[images], index)
        return np.asarray(out["text"]), np.asarray(out["score"])


def next_log_p(learner, image, text):
    tokens = learner.encode({"image": image})["image"]["tokens"]
    tower = learner.towers.text
    logits = tower.decode(text, tower(text)["tokens"], tokens, False)
    return jax.nn.log_softmax(logits[0])


@pytest.fixture(scope="module")
def model():
    codes = np.arange(6, dtype=np.uint8)[:, None, None, None]
    return Model(FakeLearner(), {}, np.broadcast_to(codes, (6, 1, 1, 3)))


TOWERS = {  # one decodes its encoded text, the other the ids
    "split_decoder": dict(decoder_depth=1),
    "mixture_bert": dict(encode_id=9, decode_id=VOCABULARY),
}


@pytest.fixture(scope="module", params=TOWERS)
def real_model(request):
    image = dict(
        name="pooled_vit", patch_size=(4, 4), image_size=(8, 8), width=8, depth=1,
        num_heads=2, num_queries=3, pool_width=8, pool_heads=2,
    )  # fmt: skip
    text = dict(
        name=request.param, width=8, depth=1, num_heads=2,
        context_length=LENGTH, vocab_size=VOCABULARY + 1, **TOWERS[request.param],
    )  # fmt: skip
    learner = build(config(image, text, "captioning"))
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    view = {"image": images, "text": np.ones((3, LENGTH), np.int32)}
    hyper = {"objectives": {"captioning": {"weight": 1.0}}}
    shapes = jax.eval_shape(
        learner.init, jax.random.key(0), {"view1": view}, {"view1": {}}, hyper
    )
    noise = np.random.default_rng(2)
    params = jax.tree.map(
        lambda p: noise.normal(0, 0.6, p.shape).astype(np.float32),
        shapes["params"],
    )
    return Model(learner, {"params": params}, images)


def config(image: dict, text: dict, objective: str) -> ConfigDict:
    model = dict(
        embed_dim=8,
        pre_projector=0,
        projection=dict(image="matrix", text="matrix"),
        embedding_from="",
        dtype="float32",
        param_dtype="float32",
        scan_layers=False,
        remat=dict(image="none", text="none"),
        image_mean=(0.5,) * 3,
        image_std=(0.5,) * 3,
        image=image,
        text=text,
    )
    objectives = {objective: dict(weight=1.0)}
    target = dict(decay=0.0, symmetric=False)
    return ConfigDict(dict(model=model, objectives=objectives, target=target))


def repeats(row: list[int], n: int) -> bool:
    ngrams = [tuple(row[i : i + n]) for i in range(len(row) - n + 1)]
    return len(set(ngrams)) < len(ngrams)


def padded(row: list[int]) -> list[int]:
    return row + [0] * (LENGTH - len(row))


def slow_beam(model, image, beams, penalty=1.0, no_repeat=0, row=(START,)):
    """Beam search with lists; greedy with one beam."""
    first = len(row)
    live = [(0.0, list(row))]
    while any(len(r) < LENGTH and r[-1] != END for _, r in live):
        following = []
        for score, row in live:
            if row[-1] == END:
                following.append((score, row))
                continue
            for x, gained in enumerate(model.log_p(image, row)):
                longer = [*row, x]
                if np.isfinite(gained) and not (
                    no_repeat and repeats(longer, no_repeat)
                ):
                    following.append((score + gained, longer))
        live = sorted(following, key=lambda h: -h[0])[:beams]
    ranked = [(score / (len(r) - first) ** penalty, r) for score, r in live]
    score, row = max(ranked, key=lambda h: h[0])
    return padded(row), score


def test_the_model_has_different_captions(model):
    rows = [[x for x in row if x] for row in model.generate()[0].tolist()]
    assert len(set(map(tuple, rows))) > 3
    assert 0 < sum(END in row for row in rows) < len(rows)
    assert any(repeats(row, 2) for row in rows)


def test_greedy_with_real_towers(real_model):
    text, score = real_model.generate()
    for image in range(len(text)):
        row, expected = slow_beam(real_model, image, 1)
        assert text[image].tolist() == row
        np.testing.assert_allclose(score[image], expected, rtol=1e-4)


@pytest.mark.parametrize("no_repeat", [0, 1, 2])
def test_greedy(model, no_repeat):
    text, score = model.generate(no_repeat_ngram=no_repeat)
    for image in range(len(text)):
        row, expected = slow_beam(model, image, 1, no_repeat=no_repeat)
        assert text[image].tolist() == row
        np.testing.assert_allclose(score[image], expected, rtol=1e-4)
        chosen = [x for x in row[1:] if x]
        assert not no_repeat or not repeats(chosen, no_repeat)


@pytest.mark.parametrize(
    ("beams", "penalty", "no_repeat"), [(2, 1.0, 0), (4, 0.0, 2), (3, 2.0, 1)]
)
def test_beam(model, beams, penalty, no_repeat):
    text, score = model.generate(
        strategy="beam", beams=beams, length_penalty=penalty, no_repeat_ngram=no_repeat
    )
    for image in range(len(text)):
        row, expected = slow_beam(model, image, beams, penalty, no_repeat)
        assert text[image].tolist() == row
        np.testing.assert_allclose(score[image], expected, rtol=1e-4)


def test_one_beam_is_greedy(model):
    for result, greedy in zip(
        model.generate(strategy="beam", beams=1), model.generate(), strict=True
    ):
        np.testing.assert_array_equal(result, greedy)


def test_enough_beams_find_the_most_likely_caption(model):
    text, score = model.generate(
        slice(2), strategy="beam", beams=100, length_penalty=0.0, max_length=4
    )
    ids = [x for x in range(1, VOCABULARY) if x != START]
    for image in range(2):
        best = -np.inf
        for chosen in itertools.product(ids, repeat=2):
            if chosen[0] == END:
                continue
            log_p = model.log_p(image, [START]), model.log_p(image, [START, chosen[0]])
            total = log_p[0][chosen[0]] + log_p[1][chosen[1]]
            if chosen[1] != END:
                total += model.log_p(image, [START, *chosen]).max()
            best = max(best, total)
        best = max(best, model.log_p(image, [START])[END])
        np.testing.assert_allclose(score[image], best, rtol=1e-4)


def test_drawn_tokens_are_in_the_nucleus(model):
    options = dict(strategy="nucleus", top_p=0.6, temperature=1.5)
    captions = set()
    for seed in range(2):
        text, _ = model.generate(**options, seed=seed)
        captions |= {tuple(row) for row in text.tolist()}
        for image, row in enumerate(text.tolist()):
            end = row.index(END) + 1 if END in row else LENGTH
            assert not any(row[end:])
            for place in range(1, end):
                log_p = model.log_p(image, row[:place]) / 1.5
                p = np.exp(log_p - log_p.max())
                p /= p.sum()
                likelier = p[p > p[row[place]]].sum()
                assert likelier < 0.6 + 1e-5
    assert len(captions) > 6


def test_a_small_nucleus_is_greedy(model):
    drawn = model.generate(strategy="nucleus", top_p=1e-6)
    for result, greedy in zip(drawn, model.generate(), strict=True):
        np.testing.assert_allclose(result, greedy, rtol=1e-5)


@pytest.mark.parametrize("strategy", ["greedy", "beam", "nucleus"])
def test_a_caption_does_not_depend_on_its_batch(model, strategy):
    together = model.generate(strategy=strategy)[0]
    for images in (slice(0, 1), slice(3, 5)):
        alone = model.generate(images, strategy=strategy)[0]
        np.testing.assert_array_equal(alone, together[images])


def test_prompt_and_short_rows(model):
    text, _ = model.generate(prompt="ab", strategy="beam", beams=2)
    for image, row in enumerate(text.tolist()):
        assert row == slow_beam(model, image, 2, row=(START, 1, 2))[0]
    text, _ = model.generate(max_length=4)
    assert text.shape == (6, 4)
    assert read_caption([START, 1, 2, 3, END, 0, 0], TOKENIZER) == "abc"
    assert read_caption([START, 1, 2, 3, END, 0, 0], TOKENIZER, "ab") == "c"
    assert read_caption([START, 1, 2, 3], TOKENIZER) == "abc"
    assert read_caption([START, END, 0], TOKENIZER) == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(strategy="beem"), "decoding.strategy is 'beem'.*beam"),
        (dict(max_length=10), "max_length is 10: .* at most data.context_length = 9"),
        (dict(max_length=3, prompt="ab"), "must be above 3"),
        (dict(beams=0), "beams is 0"),
        (dict(no_repeat_ngram=-1), "no_repeat_ngram -1"),
        (dict(temperature=0.0), "temperature is 0.0"),
        (dict(top_p=1.5), "top_p 1.5"),
    ],
)
def test_wrong_options(model, options, message):
    with pytest.raises(ClipinError, match=message):
        model.generate(**options)


def test_models_and_tokenizers_without_captioning_are_refused(model):
    learner = FakeLearner()
    learner.objectives = ("contrastive",)
    with pytest.raises(ClipinError, match="needs objectives.captioning and a tower"):
        make_generate_fn(learner, TOKENIZER, Decoding(max_length=LENGTH))
    sticky = SimpleNamespace(**vars(TOKENIZER) | dict(pad=END))
    with pytest.raises(ClipinError, match="needs a start mark, and 0 as padding"):
        model.generate(tokenizer=sticky)
