"""Captions by greedy, beam or nucleus decoding, one id at a time.

Every step runs the text tower on the whole row, whose length is fixed. So one compiled
program serves all steps, and every tower with `decode` works. A cache of keys and
values would save work, but every tower would need a second method for it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from clipin_jax.data.text.tokenizer import Tokenizer
from clipin_jax.errors import ClipinError, did_you_mean
from clipin_jax.types import Array

PAD = 0
STRATEGIES = ("greedy", "beam", "nucleus")
GenerateFn = Callable[[Any, Array, Array], dict[str, Array]]


class Decoding(NamedTuple):
    """Options of decoding.

    Attributes:
      strategy: `greedy` (the likeliest id), `beam` (search with the `beams` likeliest
        prefixes) or `nucleus` (a draw among the likeliest ids that share `top_p` of the
        probability, arXiv 1904.09751).
      max_length: ids in a row, both marks and the prompt included. An evaluation has
        fewer than 32 by default if data.context_length is shorter.
      prompt: start of every caption; it is not part of the result.
      no_repeat_ngram: n, if no n-gram of ids may occur twice (arXiv 1705.04304,
        section 2.5); 0 to allow all. Unlike a penalty on repeated ids, this does not
        change the other probabilities.
      beams: number of prefixes that `beam` keeps.
      length_penalty: exponent of the length by which `beam` divides log probabilities.
      temperature: `nucleus` divides logits by it.
      top_p: share of the probability that `nucleus` draws from.
      seed: of the draws of `nucleus`.
    """

    strategy: str = "greedy"
    max_length: int = 32
    prompt: str = ""
    no_repeat_ngram: int = 3
    beams: int = 4
    length_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 0.9
    seed: int = 0

    def used(self) -> dict[str, Any]:
        """Returns the options that its strategy reads."""
        names = ["strategy", "max_length", "prompt", "no_repeat_ngram"]
        if self.strategy == "beam":
            names += ["beams", "length_penalty"]
        if self.strategy == "nucleus":
            names += ["temperature", "top_p", "seed"]
        return {name: getattr(self, name) for name in names}


class _Rows(NamedTuple):
    """Prefixes of captions, K for each image; K is 1 without beams."""

    position: Array  # the next position to fill
    text: Array  # [B, K, L] int32
    score: Array  # [B, K], log probability of the chosen ids
    done: Array  # [B, K] bool


def make_generate_fn(
    learner: Any, tokenizer: Tokenizer, decoding: Decoding
) -> GenerateFn:
    """Returns a pure function that writes captions for images, with static shapes.

    Returns:
      `(variables, image, index) -> {"text": [B, max_length] int32, "score": [B]}`.

      image: [B, H, W, C] uint8.
      index: [B] int32, seeds the draws of `nucleus` for each image, so that they do not
        depend on its batch.
      text: start mark, prompt, caption, end mark (unless the row is full), padding.
      score: log probability of the chosen ids, divided by their number to the power
        `length_penalty`.

    Raises:
      ClipinError: options out of range, or a model that cannot write captions.
    """
    _check_model(learner, tokenizer)
    prompt = (tokenizer.start, *tokenizer.encode(decoding.prompt))
    _check(decoding, len(prompt), tokenizer.context_length)
    count = decoding.beams if decoding.strategy == "beam" else 1

    def generate(variables: Any, image: Array, index: Array) -> dict[str, Array]:
        features = learner.apply(variables, {"image": image}, method="encode")
        image_tokens = jnp.repeat(features["image"]["tokens"], count, axis=0)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(
            jax.random.key(decoding.seed), index
        )

        def step(rows: _Rows) -> _Rows:
            text = rows.text.reshape(-1, decoding.max_length)
            logits = learner.apply(variables, text, image_tokens, method=_logits)
            log_p = _log_probabilities(logits, rows.position - 1)
            ids = jnp.arange(log_p.shape[-1])
            is_word = (
                (ids != PAD) & (ids != tokenizer.start) & (ids < tokenizer.vocab_size)
            )
            allowed = is_word & ~_repeats(text, rows.position, decoding, len(ids))
            shape = (*rows.done.shape, -1)
            return _advance(
                rows,
                log_p.reshape(shape),
                allowed.reshape(shape),
                keys=jax.vmap(jax.random.fold_in, (0, None))(keys, rows.position),
                decoding=decoding,
                end=tokenizer.end,
            )

        rows = jax.lax.while_loop(
            lambda rows: (rows.position < decoding.max_length) & ~rows.done.all(),
            step,
            _first_rows(len(image), count, prompt, decoding),
        )
        return _best_rows(rows, len(prompt), decoding.length_penalty)

    return generate


def make_decoding(options: Mapping[str, Any], context_length: int) -> Decoding:
    """Returns the options; rows are not longer than the model's context by default.

    Raises ClipinError for a name that does not exist.
    """
    for name in options:
        if name not in Decoding._fields:
            hint = did_you_mean(name, Decoding._fields)
            raise ClipinError(f"decoding.{name} does not exist: {hint}")
    length = min(Decoding().max_length, context_length)
    return Decoding(**{"max_length": length, **options})


def read_caption(row: Sequence[int], tokenizer: Tokenizer, prompt: str = "") -> str:
    """Returns the caption in a row of ids, without marks, prompt and padding."""
    ids = [int(x) for x in row][1 + len(tokenizer.encode(prompt)) :]
    stop = [i for i, x in enumerate(ids) if x in (tokenizer.end, PAD)]
    return tokenizer.decode(ids[: stop[0] if stop else None]).strip()


def _check_model(learner: Any, tokenizer: Tokenizer) -> None:
    tower = type(learner.towers.text)
    if not hasattr(tower, "decode") or "captioning" not in learner.objectives:
        raise ClipinError(
            f"a model with text tower {tower.__name__} and objectives "
            f"{', '.join(learner.objectives)} does not learn to write captions: that "
            "needs objectives.captioning and a tower that can decode"
        )
    if tokenizer.pad != PAD or tokenizer.start == tokenizer.end:
        raise ClipinError(
            f"the ids of {type(tokenizer).__name__} cannot write captions: that needs "
            f"a start mark, and {PAD} as padding; choose another data.tokenizer"
        )


def _check(decoding: Decoding, prompt: int, context_length: int) -> None:
    if decoding.strategy not in STRATEGIES:
        raise ClipinError(
            f"decoding.strategy is {decoding.strategy!r}: "
            f"{did_you_mean(decoding.strategy, STRATEGIES)}"
        )
    if not prompt < decoding.max_length <= context_length:
        raise ClipinError(
            f"decoding.max_length is {decoding.max_length}: it must be above {prompt}, "
            "the length of start mark and prompt, and at most data.context_length "
            f"= {context_length}"
        )
    if decoding.beams < 1 or decoding.no_repeat_ngram < 0:
        raise ClipinError(
            f"decoding.beams is {decoding.beams}, decoding.no_repeat_ngram "
            f"{decoding.no_repeat_ngram}: they must be at least 1 and 0"
        )
    if decoding.temperature <= 0 or not 0 < decoding.top_p <= 1:
        raise ClipinError(
            f"decoding.temperature is {decoding.temperature}, decoding.top_p "
            f"{decoding.top_p}: both must be above 0, and top_p at most 1"
        )


def _logits(learner: Any, text: Array, image_tokens: Array) -> Array:
    """Returns [B, L, V]. XLA removes encodings that the decoder does not use."""
    tokens = learner.towers.text(text)["tokens"]
    return learner.towers.text.decode(text, tokens, image_tokens, False)


def _log_probabilities(logits: Array, position: Array) -> Array:
    """Returns log probabilities at a position, [R, V] in at least float32."""
    logits = jax.lax.dynamic_index_in_dim(logits, position, axis=1, keepdims=False)
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return jax.nn.log_softmax(logits)


def _first_rows(
    batch: int, count: int, prompt: tuple[int, ...], decoding: Decoding
) -> _Rows:
    text = jnp.full((batch, count, decoding.max_length), PAD, jnp.int32)
    # Equal beams would stay equal, so all but the first start at probability 0.
    score = jnp.where(jnp.arange(count) == 0, 0.0, -jnp.inf)
    return _Rows(
        jnp.asarray(len(prompt), jnp.int32),
        text.at[:, :, : len(prompt)].set(jnp.array(prompt, jnp.int32)),
        jnp.broadcast_to(score, (batch, count)),
        jnp.zeros((batch, count), bool),
    )


def _advance(
    rows: _Rows,
    log_p: Array,
    allowed: Array,
    *,
    keys: Array,
    decoding: Decoding,
    end: int,
) -> _Rows:
    """Adds an id to every row. log_p, allowed: [B, K, V]; keys: [B]."""
    choose = _draw if decoding.strategy == "nucleus" else _keep_likeliest
    # A finished caption continues with padding of log probability 0.
    is_pad = jnp.arange(log_p.shape[-1]) == PAD
    log_p = jnp.where(rows.done[..., None], 0, log_p)
    allowed = jnp.where(rows.done[..., None], is_pad, allowed)
    parent, chosen, score = choose(
        rows.score, jnp.where(allowed, log_p, -jnp.inf), keys, decoding
    )
    text = jnp.take_along_axis(rows.text, parent[..., None], axis=1)
    text = text.at[:, :, rows.position].set(chosen)
    done = jnp.take_along_axis(rows.done, parent, axis=1) | (chosen == end)
    return _Rows(rows.position + 1, text, score.astype(rows.score.dtype), done)


def _keep_likeliest(
    score: Array, log_p: Array, keys: Array, decoding: Decoding
) -> tuple[Array, Array, Array]:
    """Returns the K best continuations: the row of each, its id, its score.

    Among equal scores the lower row and id win, so that one beam is greedy decoding.
    """
    count, vocabulary = log_p.shape[1:]
    total = (score[..., None] + log_p).reshape(len(score), -1)
    best, index = jax.lax.top_k(total, count)
    return index // vocabulary, (index % vocabulary).astype(jnp.int32), best


def _draw(
    score: Array, log_p: Array, keys: Array, decoding: Decoding
) -> tuple[Array, Array, Array]:
    """Draws an id for each row from the nucleus of its distribution."""
    scaled = jax.nn.log_softmax(log_p[:, 0] / decoding.temperature)
    ordered = -jnp.sort(-scaled, axis=-1)
    p = jnp.exp(ordered)
    inside = jnp.cumsum(p, axis=-1) - p < decoding.top_p  # at least the likeliest
    least = jnp.where(inside, ordered, jnp.inf).min(axis=-1, keepdims=True)
    nucleus = jnp.where(scaled >= least, scaled, -jnp.inf)
    chosen = jax.vmap(jax.random.categorical)(keys, nucleus)[:, None]
    gained = jnp.take_along_axis(log_p[:, 0], chosen, axis=-1)
    return jnp.zeros_like(chosen), chosen.astype(jnp.int32), score + gained


def _repeats(
    text: Array, position: Array, decoding: Decoding, vocabulary: int
) -> Array:
    """Marks the ids that would complete a repeated n-gram: [R, V] bool."""
    n, length = decoding.no_repeat_ngram, text.shape[1]
    if not 0 < n <= length:
        return jnp.zeros((len(text), vocabulary), bool)
    starts = jnp.arange(length - n + 1)

    def of_row(row: Array) -> Array:
        ngrams = row[starts[:, None] + jnp.arange(n)]  # [starts, n]
        last = jax.lax.dynamic_slice(row, (position - n + 1,), (n - 1,))
        same = (ngrams[:, :-1] == last).all(axis=1) & (starts + n <= position)
        return jnp.zeros(vocabulary, bool).at[ngrams[:, -1]].max(same)

    return jax.vmap(of_row)(text)


def _best_rows(rows: _Rows, prompt: int, length_penalty: float) -> dict[str, Array]:
    """Returns the best row of each image by its score, with the length penalty."""
    length = (rows.text != PAD).sum(axis=-1) - prompt
    score = rows.score / jnp.maximum(length, 1).astype(jnp.float32) ** length_penalty
    best = jnp.argmax(score, axis=1)[:, None]
    text = jnp.take_along_axis(rows.text, best[..., None], axis=1)[:, 0]
    return {"text": text, "score": jnp.take_along_axis(score, best, axis=1)[:, 0]}
