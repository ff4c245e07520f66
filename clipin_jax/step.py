"""The pure functions that a run compiles: step, health, encode. `jit` is outside."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from clipin_jax.errors import ClipinError
from clipin_jax.generate import GenerateFn, make_generate_fn
from clipin_jax.optim import Optimizer
from clipin_jax.saliency import PREDICTED, MapFn, make_map_fn
from clipin_jax.state import TrainState, select
from clipin_jax.types import Array, Batch, Hyper, Metrics

BRANCHES = ("online", "target")
# Equal learners get the same function, which jax compiles once in a process, however
# many runs it serves.
_PROGRAMS = 32
TrainStep = Callable[[TrainState, Batch, Hyper], tuple[TrainState, Metrics]]
ViewMaker = Callable[[Any], Batch]


def as_they_came(batch: Batch) -> Batch:
    """The `ViewMaker` of batches whose views the host has made."""
    return batch


@functools.lru_cache(_PROGRAMS)
def make_train_step(
    learner: Any, optimizer: Optimizer, views: ViewMaker = as_they_came
) -> TrainStep:
    """One update of everything, as a pure function.

    The target speaks outside the gradient, the online branch answers, the optimizer
    moves the parameters, and last the target moves towards them. An update whose loss
    or gradient is not finite leaves all but the counters as it was. `views` makes the
    views of what the host sends.

    Returns:
      `(state, batch, hyper) -> (state, metrics)`.
    """

    def train_step(
        state: TrainState, batch: Batch, hyper: Hyper
    ) -> tuple[TrainState, Metrics]:
        batch = views(batch)
        targets, target_collections = learner.apply(
            state.target_variables, batch, method="targets",
            mutable=list(state.target_collections),
            rngs=_rngs(hyper["seed"], state.step, "target"),
        )  # fmt: skip

        def loss_fn(params: Any) -> tuple[Array, tuple[Metrics, Any]]:
            (loss, metrics), collections = learner.apply(
                {"params": params, **state.collections}, batch, targets, hyper,
                mutable=list(state.collections),
                rngs=_rngs(hyper["seed"], state.step, "online"),
            )  # fmt: skip
            return loss, (metrics, collections)

        gradient = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, (metrics, collections)), grads = gradient(state.params)
        grad_norm = optax.tree.norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)

        def update() -> TrainState:
            updates, opt_state = optimizer(hyper).update(
                grads, state.opt_state, state.params
            )
            params = optax.apply_updates(state.params, updates)
            target_params = optax.incremental_update(
                select(params, state.target_params),
                state.target_params,
                1 - hyper["target"]["decay"],
            )
            return TrainState(
                state.step, state.skipped, jnp.zeros_like(state.skipped_in_a_row),
                params, collections, opt_state, target_params, target_collections,
            )  # fmt: skip

        def skip() -> TrainState:
            return dataclasses.replace(
                state,
                skipped=state.skipped + 1,
                skipped_in_a_row=state.skipped_in_a_row + 1,
            )

        # A condition, not `where` on every leaf: that reads and writes all the state.
        kept = jax.lax.cond(finite, update, skip)
        metrics = {
            **metrics,
            "grad_norm": grad_norm,
            "learning_rate": hyper["optim"]["learning_rate"],
            "skipped": kept.skipped,
            "skipped_in_a_row": kept.skipped_in_a_row,
        }
        return dataclasses.replace(kept, step=state.step + 1), metrics

    return train_step


def _rngs(seed: Array | int, step: Array, branch: str) -> dict[str, Array]:
    """The streams of a branch in one step; nothing of them is kept between steps."""
    key = jax.random.fold_in(jax.random.key(seed), step)
    key = jax.random.fold_in(key, BRANCHES.index(branch))
    dropout, sample = jax.random.split(key)
    return {"dropout": dropout, "sample": sample}


@functools.lru_cache(_PROGRAMS)
def make_health_fn(
    learner: Any, views: ViewMaker = as_they_came
) -> Callable[[TrainState, Batch], Metrics]:
    """The health numbers of a batch, see `health`; `(state, batch) -> metrics`."""

    def health(state: TrainState, batch: Batch) -> Metrics:
        batch = views(batch)
        targets, _ = learner.apply(
            state.target_variables, batch, method="targets",
            mutable=list(state.target_collections),
            rngs=_rngs(0, state.step, "target"),
        )  # fmt: skip
        metrics, _ = learner.apply(
            state.variables, batch, targets, method="health",
            mutable=list(state.collections),
            rngs=_rngs(0, state.step, "online"),
        )  # fmt: skip
        return metrics

    return health


class Prediction(NamedTuple):
    """Two pure functions whose outputs are compared by their cosine.

    Each gives {"embedding": [B, E]} float32 of unit norm.

    Attributes:
      image: `(target_variables, image)`, the target network's projection of images.
      text: `(variables, text)`, what the online network predicts of that from texts.
    """

    image: Callable[[Any, Array], dict[str, Array]]
    text: Callable[[Any, Array], dict[str, Array]]


class EncodeFns(NamedTuple):
    """Pure encoders, `(variables, array) -> {"pooled": [B, D], "embedding": [B, E]}`.

    Both outputs are float32; the embedding has unit norm, `pooled` stands before the
    pre-projector. `image` takes [B, H, W, C] uint8, `text` takes [B, L] int32.

    `captioner(tokenizer, decoding)` makes what writes captions, where the model can:
    `generate.make_generate_fn`. `image_tokens` gives `tokens` [B, N, D] for `match`,
    `(variables, tokens, text) -> {"score": [B]}`, which is None for a model that was
    not taught to match. `prediction(text)` makes the second way to compare.
    `explainer(image, text, ...)` makes what shows where the model looks:
    `saliency.make_map_fn`.
    """

    image: Callable[[Any, Array], dict[str, Array]]
    text: Callable[[Any, Array], dict[str, Array]]
    captioner: Callable[..., GenerateFn]
    image_tokens: Callable[[Any, Array], dict[str, Array]]
    match: Callable[[Any, Array, Array], dict[str, Array]] | None
    prediction: Callable[[Array], Prediction]
    explainer: Callable[..., MapFn]


@functools.lru_cache(_PROGRAMS)
def make_encode_fns(learner: Any) -> EncodeFns:
    """Encoders of the online branch in evaluation mode."""

    def encoder(modality: str) -> Callable[[Any, Array], dict[str, Array]]:
        def encode(variables: Any, x: Array) -> dict[str, Array]:
            features = learner.apply(variables, {modality: x}, method="encode")
            kept = {k: features[modality][k] for k in ("pooled", "embedding")}
            return jax.tree.map(lambda y: y.astype(jnp.float32), kept)

        return encode

    def image_tokens(variables: Any, image: Array) -> dict[str, Array]:
        features = learner.apply(variables, {"image": image}, method="encode")
        return {"tokens": features["image"]["tokens"].astype(jnp.float32)}

    def match(variables: Any, tokens: Array, text: Array) -> dict[str, Array]:
        return {"score": learner.apply(variables, text, tokens, method="match")}

    return EncodeFns(
        encoder("image"),
        encoder("text"),
        functools.partial(make_generate_fn, learner),
        image_tokens,
        match if learner.matchers else None,
        functools.partial(make_prediction_fns, learner),
        functools.partial(make_map_fn, learner),
    )


def make_prediction_fns(learner: Any, text: Array) -> Prediction:
    """CLIPin's second way to compare, as released: target image against predicted one.

    Source: arXiv 2508.06434 and its code, `get_similarity(onlyclip=False)`.

    Args:
      text: [1, L] int32, any text; only its shape is looked at.

    Raises:
      ClipinError: no objective predicts the target of an image from its text.
    """
    key = jax.random.key(0)
    predicted, _ = jax.eval_shape(
        lambda: learner.init_with_output(key, {"text": text}, method="predictions")
    )
    able = [name for name, found in predicted.items() if PREDICTED in found]
    if not able:
        raise ClipinError(
            "similarity 'prediction' needs a model that predicts images from texts: "
            "train with objectives.clipin and its inter term, or compare by "
            "'contrastive'"
        )

    def image_fn(target_variables: Any, image: Array) -> dict[str, Array]:
        found = learner.apply(
            target_variables, {"image": image}, able[0], method="projections"
        )
        return {"embedding": found["image"].astype(jnp.float32)}

    def text_fn(variables: Any, text: Array) -> dict[str, Array]:
        found = learner.apply(variables, {"text": text}, method="predictions")
        return {"embedding": found[able[0]][PREDICTED].astype(jnp.float32)}

    return Prediction(image_fn, text_fn)
