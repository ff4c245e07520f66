"""The pure functions that encode images and texts with a learner. `jit` is outside."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from clipin_jax.errors import ClipinError
from clipin_jax.inference.generation import GenerateFn, make_generate_fn
from clipin_jax.inference.saliency import PREDICTED, MapFn, make_map_fn
from clipin_jax.types import Array

_PROGRAMS = 32  # functions that a process keeps: equal learners share one


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
