"""CLIP written plainly in flax, the baseline of `step_time.py`.

Towers, loss and recipe are those of `configs/clip.py`, in plain code: flax's layers,
separate query, key and value projections, attention as a softmax between two products,
a Python loop over layers, one `adamw`.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.training.train_state import TrainState
from ml_collections import ConfigDict


class Attention(nn.Module):
    num_heads: int
    causal: bool
    dtype: Any

    @nn.compact
    def __call__(self, x):
        width = x.shape[-1]
        heads = (*x.shape[:2], self.num_heads, width // self.num_heads)
        query = nn.Dense(width, dtype=self.dtype, name="query")(x).reshape(heads)
        key = nn.Dense(width, dtype=self.dtype, name="key")(x).reshape(heads)
        value = nn.Dense(width, dtype=self.dtype, name="value")(x).reshape(heads)
        logits = jnp.einsum("bqhd,bkhd->bhqk", query, key) / heads[-1] ** 0.5
        if self.causal:
            mask = jnp.tri(x.shape[1], dtype=bool)
            logits = jnp.where(mask, logits, jnp.finfo(logits.dtype).min)
        weights = jax.nn.softmax(logits.astype(jnp.float32)).astype(self.dtype)
        y = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
        return nn.Dense(width, dtype=self.dtype, name="out")(y.reshape(x.shape))


class Block(nn.Module):
    num_heads: int
    mlp_ratio: float
    causal: bool
    dtype: Any

    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm(1e-5, dtype=self.dtype, name="ln_1")(x)
        x = x + Attention(self.num_heads, self.causal, self.dtype, name="attention")(y)
        y = nn.LayerNorm(1e-5, dtype=self.dtype, name="ln_2")(x)
        hidden = int(self.mlp_ratio * x.shape[-1])
        y = nn.Dense(hidden, dtype=self.dtype, name="mlp_in")(y)
        y = y * nn.sigmoid(1.702 * y)
        return x + nn.Dense(x.shape[-1], dtype=self.dtype, name="mlp_out")(y)


class ImageTower(nn.Module):
    config: ConfigDict
    dtype: Any

    @nn.compact
    def __call__(self, x):
        c, normal = self.config, nn.initializers.normal(self.config.width**-0.5)
        x = nn.Conv(
            c.width, c.patch_size, c.patch_size, padding="VALID", use_bias=False,
            dtype=self.dtype, name="patch_embed",
        )(x)  # fmt: skip
        x = x.reshape(x.shape[0], -1, c.width)
        token = self.param("class_embedding", normal, (c.width,)).astype(self.dtype)
        token = jnp.broadcast_to(token, (x.shape[0], 1, c.width))
        x = jnp.concatenate([token, x], axis=1)
        table = self.param("position_embedding", normal, x.shape[1:])
        x = nn.LayerNorm(1e-5, dtype=self.dtype, name="ln_pre")(x + table)
        for layer in range(c.depth):
            name = f"block_{layer}"
            x = Block(c.num_heads, c.mlp_ratio, False, self.dtype, name=name)(x)
        return nn.LayerNorm(1e-5, dtype=self.dtype, name="ln_post")(x[:, 0])


class TextTower(nn.Module):
    config: ConfigDict
    dtype: Any

    @nn.compact
    def __call__(self, text):
        c, normal = self.config, nn.initializers.normal
        x = nn.Embed(
            c.vocab_size, c.width, embedding_init=normal(0.02), dtype=self.dtype,
            name="token_embedding",
        )(text)  # fmt: skip
        x = x + self.param("position_embedding", normal(0.01), x.shape[1:])
        for layer in range(c.depth):
            name = f"block_{layer}"
            x = Block(c.num_heads, 4, True, self.dtype, name=name)(x)
        x = x[jnp.arange(x.shape[0]), text.argmax(axis=-1)]
        return nn.LayerNorm(1e-5, dtype=self.dtype, name="ln_final")(x)


class PlainClip(nn.Module):
    config: ConfigDict

    @nn.compact
    def __call__(self, image, text):
        """Returns the loss of image [B, H, W, C] uint8 and text [B, L] int32."""
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        x = (image / 255.0 - jnp.array(c.image_mean)) / jnp.array(c.image_std)
        x = ImageTower(c.image, dtype, name="image")(x.astype(dtype))
        y = TextTower(c.text, dtype, name="text")(text)
        kwargs: dict[str, Any] = dict(use_bias=False, dtype=dtype)
        x = nn.Dense(c.embed_dim, **kwargs, name="image_projection")(x)
        y = nn.Dense(c.embed_dim, **kwargs, name="text_projection")(y)
        x, y = x.astype(jnp.float32), y.astype(jnp.float32)
        x = x / jnp.linalg.norm(x, axis=-1, keepdims=True)
        y = y / jnp.linalg.norm(y, axis=-1, keepdims=True)
        start = nn.initializers.constant(-jnp.log(0.07))
        logits = jnp.exp(self.param("logit_scale", start, ())) * x @ y.T
        labels = jnp.arange(logits.shape[0])
        cross_entropy = optax.softmax_cross_entropy_with_integer_labels
        return (
            cross_entropy(logits, labels).mean()
            + cross_entropy(logits.T, labels).mean()
        ) / 2


def init(config: ConfigDict) -> Callable[[Any], TrainState]:
    """Returns a function from a batch to the state of step 0, with the optimizer."""
    model, optim = PlainClip(config.model), config.optim
    optimizer = optax.chain(
        optax.clip_by_global_norm(optim.clip_norm),
        optax.adamw(
            optim.learning_rate.peak, b1=0.9, b2=0.98, eps=1e-6,
            weight_decay=optim.weight_decay,
            mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
        ),
    )  # fmt: skip

    def create(batch: Any) -> TrainState:
        params = model.init(jax.random.key(0), *batch)["params"]
        return TrainState.create(apply_fn=model.apply, params=params, tx=optimizer)

    return create


def train_step(state: TrainState, batch: Any) -> tuple[TrainState, jax.Array]:
    """Returns the state after an update on (image, text), and the loss."""

    def loss_fn(params: Any) -> jax.Array:
        return state.apply_fn({"params": params}, *batch)

    loss, grads = jax.value_and_grad(loss_fn)(state.params)
    state = state.apply_gradients(grads=grads)
    params: Any = state.params
    bounded = jnp.clip(params["logit_scale"], 0.0, 4.6052)
    return state.replace(params={**params, "logit_scale": bounded}), loss
