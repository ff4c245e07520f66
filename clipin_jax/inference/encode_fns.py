"""Pure functions of a learner in evaluation mode. The caller jits them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from clipin_jax.errors import ClipinError
from clipin_jax.inference.generation import GenerateFn, make_generate_fn
from clipin_jax.inference.saliency import PREDICTED, MapFn, make_map_fn
from clipin_jax.types import Array

_CACHED = 32  # sets of functions kept in a process; equal learners share one

EncodeFn = Callable[[Any, Array], dict[str, Array]]


class ModelState(Protocol):
    """The variables of a model, as `core.state.TrainState` has them."""

    @property
    def variables(self) -> Any:
        """Variables of the online branch."""
        ...

    @property
    def target_variables(self) -> Any:
        """Variables of the target branch."""
        ...


class PredictionFns(NamedTuple):
    """Two functions whose outputs are compared by their cosine.

    Both return {"embedding": [B, E]} float32 of unit norm.

    Attributes:
      image: `(target_variables, image)`, the target's projection of images.
      text: `(variables, text)`, the online prediction of that projection from texts.
    """

    image: EncodeFn
    text: EncodeFn


class EncodeFns(NamedTuple):
    """The computations of a model in evaluation mode, as pure functions.

    `image` takes [B, H, W, C] uint8, `text` takes [B, L] int32. Both return {"pooled":
    [B, D], "embedding": [B, E]} float32: `pooled` before the pre-projector, `embedding`
    of unit norm.

    Attributes:
      image: `(variables, image)`.
      text: `(variables, text)`.
      image_tokens: `(variables, image) -> {"tokens": [B, N, D] float32}`.
      match: `(variables, tokens, text) -> {"score": [B]}`; None if the model has no
        matching objective.
      prediction: `(context_length) -> PredictionFns`, see `make_prediction_fns`.
      captioner: `(tokenizer, decoding) -> GenerateFn`, see `make_generate_fn`.
      explainer: `(image, text, method, layer, words) -> MapFn`, see `make_map_fn`.
      scale: `(variables, cosine [B, T]) -> (logits, probabilities)`; None if no
        objective has them, see `objectives.base.ScalesCosines`.
    """

    image: EncodeFn
    text: EncodeFn
    image_tokens: EncodeFn
    match: Callable[[Any, Array, Array], dict[str, Array]] | None
    prediction: Callable[[int], PredictionFns]
    captioner: Callable[..., GenerateFn]
    explainer: Callable[..., MapFn]
    scale: Callable[[Any, Any], tuple[Array, Array]] | None


@functools.lru_cache(_CACHED)
def make_encode_fns(learner: Any) -> EncodeFns:
    """Returns the functions of a learner's online branch; equal learners share them."""

    def image(variables: Any, image: Array) -> dict[str, Array]:
        return _features(learner.apply(variables, {"image": image}, method="encode"))

    def text(variables: Any, text: Array) -> dict[str, Array]:
        return _features(learner.apply(variables, {"text": text}, method="encode"))

    def image_tokens(variables: Any, image: Array) -> dict[str, Array]:
        features = learner.apply(variables, {"image": image}, method="encode")
        return {"tokens": features["image"]["tokens"].astype(jnp.float32)}

    def match(variables: Any, tokens: Array, text: Array) -> dict[str, Array]:
        return {"score": learner.apply(variables, text, tokens, method="match")}

    scaling = _scaling_objective(learner)

    def scale(variables: Any, cosine: Array) -> tuple[Array, Array]:
        def method(learner: Any, cosine: Array) -> tuple[Array, Array]:
            return learner.objectives[scaling].scale_cosines(cosine)

        return learner.apply(variables, cosine, method=method)

    return EncodeFns(
        image=image,
        text=text,
        image_tokens=image_tokens,
        match=match if learner.matchers else None,
        prediction=functools.partial(make_prediction_fns, learner),
        captioner=functools.partial(make_generate_fn, learner),
        explainer=functools.partial(make_map_fn, learner),
        scale=scale if scaling else None,
    )


def _scaling_objective(learner: Any) -> str:
    """Returns the objective that compares the embeddings by their cosine, or ""."""
    names = list(learner.objectives_with("scale_cosines"))
    if learner.embedding_from:
        names = [name for name in names if name == learner.embedding_from]
    return names[0] if names else ""


def _features(encoded: Any) -> dict[str, Array]:
    """Returns the pooled features and the embedding of one modality in float32."""
    [features] = encoded.values()
    return {key: features[key].astype(jnp.float32) for key in ("pooled", "embedding")}


@functools.lru_cache(_CACHED)
def make_prediction_fns(learner: Any, context_length: int) -> PredictionFns:
    """Returns functions that compare a target image with its prediction from text.

    Source: arXiv 2508.06434 and its code, `get_similarity(onlyclip=False)`.

    Raises:
      ClipinError: no objective predicts the target of an image from its text.
    """
    text = np.zeros((1, context_length), np.int32)
    key = jax.random.key(0)
    predictions, _ = jax.eval_shape(
        lambda: learner.init_with_output(key, {"text": text}, method="predictions")
    )
    names = [name for name, kinds in predictions.items() if PREDICTED in kinds]
    if not names:
        raise ClipinError(
            "similarity 'prediction' needs a model that predicts images from texts: "
            "train with objectives.clipin and its inter term, or compare by "
            "'contrastive'"
        )
    objective = names[0]

    def image(target_variables: Any, image: Array) -> dict[str, Array]:
        projections = learner.apply(
            target_variables, {"image": image}, objective, method="projections"
        )
        return {"embedding": projections["image"].astype(jnp.float32)}

    def text_fn(variables: Any, text: Array) -> dict[str, Array]:
        predictions = learner.apply(variables, {"text": text}, method="predictions")
        return {"embedding": predictions[objective][PREDICTED].astype(jnp.float32)}

    return PredictionFns(image, text_fn)
