"""Captions, one id after the other: greedy, beam and nucleus decoding.

Every step runs the text tower on the whole row, whose length never changes: one
compilation serves all steps, and any tower that can `decode` will do. A cache of keys
and values would save the repeated work and ask every tower for a second method; rows
of a caption are short.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from clipin_jax.errors import ClipinError, did_you_mean
from clipin_jax.types import Array

PAD = 0
STRATEGIES = ("greedy", "beam", "nucleus")
GenerateFn = Callable[[Any, Array, Array], dict[str, Array]]


class Decoding(NamedTuple):
    """How the next id is chosen.

    Attributes:
      strategy: `greedy` (the likeliest id), `beam` (the `beams` likeliest beginnings go
        on) or `nucleus` (drawn among the likeliest ids that share `top_p` of the
        probability, arXiv 1904.09751).
      max_length: ids in a row, both marks and the prompt included.
      prompt: how every caption begins; it is not part of what comes back.
      no_repeat_ngram: that many ids in a row never come twice (arXiv 1705.04304,
        section 2.5); 0 for no such rule. It leaves all other probabilities as they
        are, which a penalty on repeated ids does not.
      beams: of `beam`.
      length_penalty: beams are compared by log probability over length to this power.
      temperature: of `nucleus`; logits are divided by it.
      top_p: of `nucleus`.
      seed: of `nucleus`.
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


class _Rows(NamedTuple):
    """What a step knows: [B, K] beginnings of captions; K is 1 without beams."""

    position: Array  # that is filled next
    text: Array  # [B, K, L] int32
    score: Array  # [B, K], the log probability of what was chosen
    done: Array  # [B, K] bool


def make_generate_fn(learner: Any, tokenizer: Any, decoding: Decoding) -> GenerateFn:
    """Captions of images, as a pure function with static shapes.

    Returns:
      `(variables, image, index) -> {"text": [B, max_length] int32, "score": [B]}`:
      image is [B, H, W, C] uint8, index [B] int32 says which draws of `nucleus` an
      image gets, whatever batch it is in. A row is the start mark, the prompt, the
      caption, the end mark unless the row is full, padding. `score` is the mean log
      probability of a chosen id, or what `length_penalty` makes of it.

    Raises:
      ClipinError: the options make no sense, or the model cannot speak.
    """
    _check_able(learner, tokenizer)
    prompt = (tokenizer.start, *tokenizer.encode(decoding.prompt))
    _check(decoding, len(prompt), tokenizer.context_length)
    count = decoding.beams if decoding.strategy == "beam" else 1

    def generate(variables: Any, image: Array, index: Array) -> dict[str, Array]:
        features = learner.apply(variables, {"image": image}, method="encode")
        seen = jnp.repeat(features["image"]["tokens"], count, axis=0)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(
            jax.random.key(decoding.seed), index
        )

        def step(rows: _Rows) -> _Rows:
            text = rows.text.reshape(-1, decoding.max_length)
            logits = learner.apply(variables, text, seen, method=_predict)
            logits = jax.lax.dynamic_index_in_dim(
                logits, rows.position - 1, axis=1, keepdims=False
            )
            logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
            ids = jnp.arange(logits.shape[-1])
            said = (
                (ids != PAD) & (ids != tokenizer.start) & (ids < tokenizer.vocab_size)
            )
            allowed = said & ~_repeating(text, rows.position, decoding, len(ids))
            shape = (*rows.done.shape, -1)
            return _advance(
                rows,
                jax.nn.log_softmax(logits).reshape(shape),
                allowed.reshape(shape),
                jax.vmap(jax.random.fold_in, (0, None))(keys, rows.position),
                decoding,
                tokenizer.end,
            )

        rows = jax.lax.while_loop(
            lambda rows: (rows.position < decoding.max_length) & ~rows.done.all(),
            step,
            _begin(len(image), count, prompt, decoding),
        )
        return _best(rows, len(prompt), decoding.length_penalty)

    return generate


def make_decoding(options: Mapping[str, Any]) -> Decoding:
    """The options by name; raises ClipinError for one that does not exist."""
    for name in options:
        if name not in Decoding._fields:
            hint = did_you_mean(name, Decoding._fields)
            raise ClipinError(f"decoding.{name} does not exist: {hint}")
    return Decoding(**options)


def read_caption(row: Sequence[int], tokenizer: Any, prompt: str = "") -> str:
    """The caption in a row of ids, without marks, prompt and padding."""
    ids = [int(x) for x in row][1 + len(tokenizer.encode(prompt)) :]
    stop = [place for place, x in enumerate(ids) if x in (tokenizer.end, PAD)]
    return tokenizer.decode(ids[: stop[0] if stop else None]).strip()


def _check_able(learner: Any, tokenizer: Any) -> None:
    tower = type(learner.towers.text)
    if not hasattr(tower, "decode") or "captioning" not in learner.objectives:
        raise ClipinError(
            f"a model with text tower {tower.__name__} and objectives "
            f"{', '.join(learner.objectives)} does not learn to write captions: it "
            "takes objectives.captioning and a tower that can decode"
        )
    if tokenizer.pad != PAD or tokenizer.start == tokenizer.end:
        raise ClipinError(
            f"the ids of {type(tokenizer).__name__} cannot write captions: that takes "
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
            "what the start mark and the prompt take, and at most data.context_length "
            f"= {context_length}"
        )
    if decoding.beams < 1 or decoding.no_repeat_ngram < 0:
        raise ClipinError(
            f"decoding.beams is {decoding.beams}, decoding.no_repeat_ngram "
            f"{decoding.no_repeat_ngram}: the one must be at least 1, the other 0"
        )
    if decoding.temperature <= 0 or not 0 < decoding.top_p <= 1:
        raise ClipinError(
            f"decoding.temperature is {decoding.temperature}, decoding.top_p "
            f"{decoding.top_p}: both must be above 0, and top_p at most 1"
        )


def _predict(learner: Any, text: Array, image_tokens: Array) -> Array:
    """[B, L, V] logits; what a tower does not read of the encoding is not computed."""
    tokens = learner.towers.text(text)["tokens"]
    return learner.towers.text.decode(text, tokens, image_tokens, False)


def _begin(
    batch: int, count: int, prompt: tuple[int, ...], decoding: Decoding
) -> _Rows:
    text = jnp.full((batch, count, decoding.max_length), PAD, jnp.int32)
    # All beams begin alike: only the first may go on, or they would stay alike.
    score = jnp.where(jnp.arange(count) == 0, 0.0, -jnp.inf)
    return _Rows(
        jnp.asarray(len(prompt), jnp.int32),
        text.at[:, :, : len(prompt)].set(jnp.array(prompt, jnp.int32)),
        jnp.broadcast_to(score, (batch, count)),
        jnp.zeros((batch, count), bool),
    )


def _advance(
    rows: _Rows, log_p: Array, allowed: Array, keys: Array, decoding: Decoding, end: int
) -> _Rows:
    """One id more for every row. log_p, allowed: [B, K, V]; keys: [B]."""
    choose = _draw if decoding.strategy == "nucleus" else _keep_likeliest
    # A caption that has ended goes on with padding, which costs it nothing.
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
    """The K best of all continuations: which row each goes on from, its id, its score.

    Of equals the one with the lower row and id, so that one beam is greedy.
    """
    count, vocabulary = log_p.shape[1:]
    total = (score[..., None] + log_p).reshape(len(score), -1)
    best, place = jax.lax.top_k(total, count)
    return place // vocabulary, (place % vocabulary).astype(jnp.int32), best


def _draw(
    score: Array, log_p: Array, keys: Array, decoding: Decoding
) -> tuple[Array, Array, Array]:
    """Draws an id for each row out of the nucleus of its distribution."""
    sharp = jax.nn.log_softmax(log_p[:, 0] / decoding.temperature)
    ordered = -jnp.sort(-sharp, axis=-1)
    p = jnp.exp(ordered)
    inside = jnp.cumsum(p, axis=-1) - p < decoding.top_p  # the likeliest always is
    least = jnp.where(inside, ordered, jnp.inf).min(axis=-1, keepdims=True)
    nucleus = jnp.where(sharp >= least, sharp, -jnp.inf)
    chosen = jax.vmap(jax.random.categorical)(keys, nucleus)[:, None]
    gained = jnp.take_along_axis(log_p[:, 0], chosen, axis=-1)
    return jnp.zeros_like(chosen), chosen.astype(jnp.int32), score + gained


def _repeating(
    text: Array, position: Array, decoding: Decoding, vocabulary: int
) -> Array:
    """[R, V] bool: the ids that would bring n ids in a row for the second time."""
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


def _best(rows: _Rows, prompt: int, length_penalty: float) -> dict[str, Array]:
    """The best row of each image, by its score over its length to a power."""
    length = (rows.text != PAD).sum(axis=-1) - prompt
    score = rows.score / jnp.maximum(length, 1).astype(jnp.float32) ** length_penalty
    best = jnp.argmax(score, axis=1)[:, None]
    text = jnp.take_along_axis(rows.text, best[..., None], axis=1)[:, 0]
    return {"text": text, "score": jnp.take_along_axis(score, best, axis=1)[:, 0]}
