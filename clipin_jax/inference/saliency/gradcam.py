"""Methods of explanation: the attention that each uses, and its map over patches.

With attention probabilities A of one layer and G = dscore/dA, Grad-CAM is the mean over
heads of A * max(G, 0) (Selvaraju et al. 2017, arXiv 1610.02391; on attention: ALBEF,
arXiv 2107.07651, section 6.4, and its code).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from clipin_jax.errors import ClipinError
from clipin_jax.inference.saliency.attention_probe import AttentionProbe, Forward, Layer
from clipin_jax.types import Array

PREDICTED = "text_to_image"  # the prediction that similarity "prediction" compares


class Maps(NamedTuple):
    """Maps over patches, not below 0, of any scale.

    Attributes:
      caption: [B, rows, columns].
      tokens: [B, L, rows, columns], one for each id of the text; None if not requested.
    """

    caption: Array
    tokens: Array | None


def grad_cam(weights: Array, gradient: Array) -> Array:
    """Returns the mean over heads of A * max(G, 0): [B, heads, N, M] to [B, N, M]."""
    return (weights * jax.nn.relu(gradient)).mean(axis=1)


class Request(NamedTuple):
    """A request for maps: a learner, its variables, images [B, ...], texts [B, L]."""

    learner: Any
    layer: int | None
    words: bool
    variables: Any
    target_variables: Any
    image: Array
    text: Array

    def probe(self, forward: Forward, variables: Any = None) -> AttentionProbe:
        """Returns a probe of a pass, by default with the online variables."""
        variables = self.variables if variables is None else variables
        return AttentionProbe(self.learner, forward, variables, self.image, self.text)

    def choose(self, layers: list[Layer], default: int = -1) -> Layer:
        """Returns the requested layer. Raises ClipinError if there is none."""
        index = default if self.layer is None else self.layer
        if not -len(layers) <= index < len(layers):
            names = [
                "/".join(layer.path[1:-1])
                + ("" if layer.index is None else f"[{layer.index}]")
                for layer in layers
            ]
            raise ClipinError(
                f"layer {index} does not exist: there are layers 0 to "
                f"{len(layers) - 1} ({', '.join(names)})"
            )
        return layers[index]

    def patches(self, x: Array) -> Array:
        """Returns values of all tokens as grids of patches: [..., N] to [..., r, c]."""
        grid = self.learner.towers.image.grid(self.image.shape[1:3])
        return x[..., -grid[0] * grid[1] :].reshape(*x.shape[:-1], *grid)


def _through_poolers(x: Array, poolers: Sequence[Array]) -> Array:
    """Turns values of pooled tokens into values of the tokens before pooling.

    x: [B, Q, M]; poolers: attention weights [B, heads, at least M, N] each, whose last
    M rows belong to the M tokens.
    """
    for weights in poolers:
        x = x @ weights.mean(axis=1)[:, -x.shape[-1] :]
    return x


def _of_cosine(
    request: Request, image_probe: AttentionProbe, text_probe: AttentionProbe
) -> Maps:
    """Computes Grad-CAM of the cosine of an image and a text, in the image tower.

    The score of a word is its share of the cosine: the gradient with respect to the
    last attention of the text tower, times that attention, summed over all positions
    that attend to the word. The cosine is linear in both vectors, so the map of a word
    is the map of its share of the text's vector.
    """
    tower = request.learner.towers.image
    layer = request.choose(image_probe.layers("image", tower.patch_layers))

    def embed(offset: Array) -> tuple[Array, Array]:
        out, (weights,) = image_probe.run([layer], [offset])
        return out, weights

    _, pull, weights = jax.vjp(embed, jnp.zeros(layer.shape), has_aux=True)

    def explain(vector: Array) -> Array:
        cam = grad_cam(weights, pull(vector)[0])  # [B, N, M]
        row = tower.summary_row
        return request.patches(cam.mean(axis=1) if row is None else cam[:, row])

    if not request.words:
        return Maps(explain(text_probe.run([], [])[0]), None)
    caption, shares = word_vectors(text_probe, request.text.shape[1])
    return Maps(explain(caption), jax.lax.map(explain, shares).swapaxes(0, 1))


def word_vectors(probe: AttentionProbe, length: int) -> tuple[Array, Array]:
    """Returns the vector of a text [B, E], and the share of each word in it [L, B, E].

    The share is the derivative along the attention to the word: with A the text tower's
    last self-attention, the sum over heads and rows of A * dvector/dA.
    """
    layer = probe.layers("text", (), "self")[-1]

    def embed(offset: Array) -> tuple[Array, Array]:
        out, (weights,) = probe.run([layer], [offset])
        return out, weights

    offset = jnp.zeros(layer.shape)
    vector, pull, weights = jax.vjp(embed, offset, has_aux=True)
    # Layer norms have no forward mode; the transpose of the transpose replaces it.
    _, push = jax.vjp(lambda y: pull(y)[0], vector)

    def share(word: Array) -> Array:
        received = weights * (jnp.arange(weights.shape[-1]) == word)
        return push(received.astype(offset.dtype))[0]

    return vector, jax.lax.map(share, jnp.arange(length))


def _contrastive(request: Request) -> Maps:
    """Explains the cosine of the embeddings."""
    return _of_cosine(
        request, request.probe(image_embedding), request.probe(text_embedding)
    )


def _prediction(request: Request) -> Maps:
    """Explains the cosine of the target's image and its prediction from the text."""
    predictions = jax.eval_shape(request.probe(_text_predictions).run, (), ())[0]
    names = [name for name, kinds in predictions.items() if PREDICTED in kinds]
    if not names:
        raise ClipinError(
            "method 'prediction' needs a model that predicts images from texts: train "
            "with objectives.clipin and its inter term, or take another method"
        )

    def target(m: Any, image: Array, _: Array) -> Array:
        return m.projections({"image": image}, names[0])["image"]

    def predicted(*inputs: Any) -> Array:
        return _text_predictions(*inputs)[names[0]][PREDICTED]

    image_probe = request.probe(target, request.target_variables)
    return _of_cosine(request, image_probe, request.probe(predicted))


def _matching(request: Request) -> Maps:
    """Explains the matching logit, in the cross-attention of the text tower.

    The map of a token is its row of A * max(G, 0), 0 for padding. The map of the
    caption is the mean over all positions. Source: salesforce/ALBEF,
    `visualization.ipynb`.
    """
    image, text = request.learner.towers.image, request.learner.towers.text
    probe = request.probe(matching_logit)
    layers = probe.layers("text", (), "cross")
    default = min(getattr(text, "explained_layer", len(layers)), len(layers) - 1)
    layer = request.choose(layers, default)
    poolers = probe.layers("image", image.token_poolers) if image.token_poolers else []

    def score(offset: Array) -> tuple[Array, list[Array]]:
        rest = [jnp.zeros(pooler.shape) for pooler in poolers]
        out, weights = probe.run([layer, *poolers], [offset, *rest])
        return out.sum(), weights

    gradient, weights = jax.grad(score, has_aux=True)(jnp.zeros(layer.shape))
    cam = grad_cam(weights[0], gradient)
    is_token = (request.text != text.pad_id)[:, :, None, None]
    tokens = request.patches(_through_poolers(cam, weights[1:])) * is_token
    return Maps(tokens.mean(axis=1), tokens)


def _captioning(request: Request) -> Maps:
    """Shows the attention to the image while each id is decoded.

    Position l predicts id l + 1, so the map of a token is the row before its own. If
    the image tokens are pooled, the map is multiplied by the attention of the poolers.
    The map of the caption is the mean over its tokens.
    """
    image, text = request.learner.towers.image, request.learner.towers.text
    probe = request.probe(_caption_logits)
    layer = request.choose(probe.layers("text", (), "cross"))
    poolers = probe.layers("image", image.token_poolers) if image.token_poolers else []
    weights, *pooled = probe.weights([layer, *poolers])
    rows = request.patches(_through_poolers(weights.mean(axis=1), pooled))
    tokens = jnp.roll(rows, 1, axis=1)
    is_decoded = jnp.asarray(request.text != text.pad_id).at[:, 0].set(False)
    is_decoded = is_decoded[:, :, None, None]
    tokens = jnp.where(is_decoded, tokens, 0)
    return Maps(tokens.sum(axis=1) / jnp.maximum(is_decoded.sum(axis=1), 1), tokens)


def _pooling(request: Request) -> Maps:
    """Shows the attention that pools the image's tokens; the text has no influence."""
    image = request.learner.towers.image
    probe = request.probe(image_embedding)
    layers = [
        layer for name in image.poolers for layer in probe.layers("image", [name])
    ]
    first, *rest = probe.weights(layers)
    return Maps(request.patches(_through_poolers(first.mean(axis=1), rest)[:, 0]), None)


def image_embedding(m: Any, image: Array, _: Array) -> Array:
    """Returns the embeddings of images, [B, E]."""
    return m.encode({"image": image})["image"]["embedding"]


def text_embedding(m: Any, _: Array, text: Array) -> Array:
    """Returns the embeddings of texts, [B, E]."""
    return m.encode({"text": text})["text"]["embedding"]


def _text_predictions(m: Any, _: Array, text: Array) -> Any:
    return m.predictions({"text": text})


def _image_predictions(m: Any, image: Array, _: Array) -> Any:
    return m.predictions({"image": image})


def matching_logit(m: Any, image: Array, text: Array) -> Array:
    """Returns the matching logits of pairs, [B]."""
    return m.match(text, m.encode({"image": image})["image"]["tokens"])


def _caption_logits(m: Any, image: Array, text: Array) -> Array:
    tokens = m.towers.encode({"image": image, "text": text})
    return m.towers.text.decode(
        text, tokens["text"]["tokens"], tokens["image"]["tokens"], False
    )


class Method(NamedTuple):
    """A method of explanation.

    Attributes:
      maps: computes the maps.
      passes: the passes that it runs; a model is initialized with them.
      is_supported: tells whether a learner has the parts that the method needs.
      needs: these parts, for a message.
    """

    maps: Callable[[Request], Maps]
    passes: tuple[Forward, ...]
    is_supported: Callable[[Any], bool]
    needs: str


def _can_caption(learner: Any) -> bool:
    tower = type(learner.towers.text)
    return hasattr(tower, "decode") and "captioning" in learner.objectives


METHODS = {
    "contrastive": Method(
        _contrastive, (image_embedding, text_embedding), lambda _: True, ""
    ),
    "prediction": Method(
        _prediction,
        (_image_predictions, _text_predictions),
        lambda _: True,
        "",
    ),
    "matching": Method(
        _matching, (matching_logit,), lambda learner: bool(learner.matchers),
        "objectives.matching",
    ),
    "captioning": Method(
        _captioning, (_caption_logits,), _can_caption,
        "objectives.captioning and a text tower that can decode",
    ),
    "pooling": Method(
        _pooling, (image_embedding,),
        lambda learner: bool(learner.towers.image.poolers),
        "an image tower that pools by attention",
    ),
}  # fmt: skip
