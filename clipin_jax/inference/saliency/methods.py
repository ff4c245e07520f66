"""The kinds of maps: what is looked at, and how that becomes a map over patches.

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
from clipin_jax.inference.saliency.probe import Forward, Layer, Probe
from clipin_jax.types import Array

PREDICTED = "text_to_image"  # the prediction that images and texts are compared by


class Maps(NamedTuple):
    """What a map function returns, not below 0, of any scale.

    Attributes:
      caption: [B, rows, columns].
      tokens: [B, L, rows, columns], one for each id of the text; None where not asked.
    """

    caption: Array
    tokens: Array | None


def grad_cam(weights: Array, gradient: Array) -> Array:
    """Mean over heads of A * max(G, 0): two [B, heads, N, M] to [B, N, M]."""
    return (weights * jax.nn.relu(gradient)).mean(axis=1)


class Request(NamedTuple):
    """What is to be explained, with the arrays at hand."""

    learner: Any
    layer: int | None
    words: bool
    variables: Any
    target_variables: Any
    image: Array
    text: Array

    def probe(self, forward: Forward, variables: Any = None) -> Probe:
        """A pass over this image and text; with the online variables if none."""
        variables = self.variables if variables is None else variables
        return Probe(self.learner, forward, variables, self.image, self.text)

    def choose(self, layers: list[Layer], default: int = -1) -> Layer:
        """The layer that is asked for."""
        wanted = default if self.layer is None else self.layer
        if not -len(layers) <= wanted < len(layers):
            names = [
                "/".join(layer.path[1:-1])
                + ("" if layer.place is None else f"[{layer.place}]")
                for layer in layers
            ]
            raise ClipinError(
                f"layer {wanted} does not exist: there are layers 0 to "
                f"{len(layers) - 1} ({', '.join(names)})"
            )
        return layers[wanted]

    def patches(self, x: Array) -> Array:
        """What is said of all tokens of a block, as grids: [..., N] to [..., r, c]."""
        grid = self.learner.towers.image.grid(self.image.shape[1:3])
        return x[..., -grid[0] * grid[1] :].reshape(*x.shape[:-1], *grid)


def _through(x: Array, poolers: Sequence[Array]) -> Array:
    """What is said of the tokens that poolers made, said of what these had read.

    x: [B, Q, M]; poolers: [B, heads, at least M, N] each, the last M rows are meant.
    """
    for weights in poolers:
        x = x @ weights.mean(axis=1)[:, -x.shape[-1] :]
    return x


def _of_cosine(request: Request, image_probe: Probe, text_probe: Probe) -> Maps:
    """Grad-CAM of the cosine of an image's and a text's vector, in the image tower.

    For a word the score is its share of the cosine: the gradient by the text tower's
    last attention times that attention, of all places that the word is looked at from.
    The cosine is linear in both vectors, so this only exchanges the vector of the text.
    """
    tower = request.learner.towers.image
    layer = request.choose(image_probe.layers("image", tower.patch_layers))

    def embed(move: Array) -> tuple[Array, Array]:
        out, (weights,) = image_probe.run([layer], [move])
        return out, weights

    _, pull, weights = jax.vjp(embed, jnp.zeros(layer.shape), has_aux=True)

    def explain(vector: Array) -> Array:
        cam = grad_cam(weights, pull(vector)[0])  # [B, N, M]
        row = tower.summary_row
        return request.patches(cam.mean(axis=1) if row is None else cam[:, row])

    if not request.words:
        return Maps(explain(text_probe.run([], [])[0]), None)
    caption, shares = _word_vectors(text_probe, request.text.shape[1])
    return Maps(explain(caption), jax.lax.map(explain, shares).swapaxes(0, 1))


def _word_vectors(probe: Probe, length: int) -> tuple[Array, Array]:
    """The vector of a text [B, E], and each word's share in it [L, B, E].

    The share is the derivative along the attention that the word gets: with A the text
    tower's last self-attention, sum over heads and rows of A * dvector/dA.
    """
    layer = probe.layers("text", (), "self")[-1]

    def embed(move: Array) -> tuple[Array, Array]:
        out, (weights,) = probe.run([layer], [move])
        return out, weights

    move = jnp.zeros(layer.shape)
    vector, pull, weights = jax.vjp(embed, move, has_aux=True)
    # Forward mode stops at layer norms; the transpose of the transpose does not.
    _, push = jax.vjp(lambda y: pull(y)[0], vector)

    def share(word: Array) -> Array:
        received = weights * (jnp.arange(weights.shape[-1]) == word)
        return push(received.astype(move.dtype))[0]

    return vector, jax.lax.map(share, jnp.arange(length))


def _contrastive(request: Request) -> Maps:
    """By the cosine of the embeddings."""
    return _of_cosine(
        request, request.probe(_image_embedding), request.probe(_text_embedding)
    )


def _prediction(request: Request) -> Maps:
    """By the cosine that CLIPin was released with: target image, predicted image."""
    found = jax.eval_shape(request.probe(_text_predictions).run, (), ())[0]
    able = [name for name, predicted in found.items() if PREDICTED in predicted]
    if not able:
        raise ClipinError(
            "method 'prediction' needs a model that predicts images from texts: train "
            "with objectives.clipin and its inter term, or take another method"
        )

    def target(m: Any, image: Array, _: Array) -> Array:
        return m.projections({"image": image}, able[0])["image"]

    def predicted(*inputs: Any) -> Array:
        return _text_predictions(*inputs)[able[0]][PREDICTED]

    image_probe = request.probe(target, request.target_variables)
    return _of_cosine(request, image_probe, request.probe(predicted))


def _matching(request: Request) -> Maps:
    """By the logit of a match, in the cross-attention of the text tower.

    A token's map is its row of A * max(G, 0), 0 where it is padding; the caption's is
    the mean over all places. Source: salesforce/ALBEF, `visualization.ipynb`.
    """
    image, text = request.learner.towers.image, request.learner.towers.text
    probe = request.probe(_match)
    layers = probe.layers("text", (), "cross")
    default = min(getattr(text, "explained_layer", len(layers)), len(layers) - 1)
    layer = request.choose(layers, default)
    poolers = probe.layers("image", image.token_poolers) if image.token_poolers else []

    def score(move: Array) -> tuple[Array, list[Array]]:
        rest = [jnp.zeros(pooler.shape) for pooler in poolers]
        out, weights = probe.run([layer, *poolers], [move, *rest])
        return out.sum(), weights

    gradient, seen = jax.grad(score, has_aux=True)(jnp.zeros(layer.shape))
    cam = grad_cam(seen[0], gradient)
    real = request.text != text.pad_id
    tokens = request.patches(_through(cam, seen[1:])) * real[:, :, None, None]
    return Maps(tokens.mean(axis=1), tokens)


def _captioning(request: Request) -> Maps:
    """Attention of the text tower to the image while it says each word.

    Position l says id l + 1, so a token's map is the row before its own. Where tokens
    are what a pooler read, the map goes on through its attention. The caption's map is
    the mean over its tokens.
    """
    image, text = request.learner.towers.image, request.learner.towers.text
    probe = request.probe(_say)
    layer = request.choose(probe.layers("text", (), "cross"))
    poolers = probe.layers("image", image.token_poolers) if image.token_poolers else []
    weights, *pooled = probe.weights([layer, *poolers])
    rows = request.patches(_through(weights.mean(axis=1), pooled))
    tokens = jnp.roll(rows, 1, axis=1)
    said = jnp.asarray(request.text != text.pad_id).at[:, 0].set(False)
    said = said[:, :, None, None]
    tokens = jnp.where(said, tokens, 0)
    return Maps(tokens.sum(axis=1) / jnp.maximum(said.sum(axis=1), 1), tokens)


def _pooling(request: Request) -> Maps:
    """Attention of what pools the image's tokens, whatever the text."""
    image = request.learner.towers.image
    probe = request.probe(_image_embedding)
    layers = [
        layer for name in image.poolers for layer in probe.layers("image", [name])
    ]
    first, *rest = probe.weights(layers)
    return Maps(request.patches(_through(first.mean(axis=1), rest)[:, 0]), None)


def _image_embedding(m: Any, image: Array, _: Array) -> Array:
    return m.encode({"image": image})["image"]["embedding"]


def _text_embedding(m: Any, _: Array, text: Array) -> Array:
    return m.encode({"text": text})["text"]["embedding"]


def _text_predictions(m: Any, _: Array, text: Array) -> Any:
    return m.predictions({"text": text})


def _image_predictions(m: Any, image: Array, _: Array) -> Any:
    return m.predictions({"image": image})


def _match(m: Any, image: Array, text: Array) -> Array:
    return m.match(text, m.encode({"image": image})["image"]["tokens"])


def _say(m: Any, image: Array, text: Array) -> Array:
    tokens = m.towers.encode({"image": image, "text": text})
    return m.towers.text.decode(
        text, tokens["text"]["tokens"], tokens["image"]["tokens"], False
    )


class Method(NamedTuple):
    """A kind of map.

    Attributes:
      maps: what makes it.
      touches: the passes that it needs, as a fresh model is given parameters for them.
      able: whether a learner has the parts.
      needs: which these are, for a message.
    """

    maps: Callable[[Request], Maps]
    touches: tuple[Forward, ...]
    able: Callable[[Any], bool]
    needs: str


def _can_say(learner: Any) -> bool:
    tower = type(learner.towers.text)
    return hasattr(tower, "decode") and "captioning" in learner.objectives


METHODS = {
    "contrastive": Method(
        _contrastive, (_image_embedding, _text_embedding), lambda _: True, ""
    ),
    "prediction": Method(
        _prediction,
        (_image_predictions, _text_predictions),
        lambda _: True,
        "",
    ),
    "matching": Method(
        _matching, (_match,), lambda learner: bool(learner.matchers),
        "objectives.matching",
    ),
    "captioning": Method(
        _captioning, (_say,), _can_say,
        "objectives.captioning and a text tower that can decode",
    ),
    "pooling": Method(
        _pooling, (_image_embedding,),
        lambda learner: bool(learner.towers.image.poolers),
        "an image tower that pools by attention",
    ),
}  # fmt: skip
