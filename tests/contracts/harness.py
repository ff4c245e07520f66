"""The smallest model around one row of a table, and two training steps of it.

The rest of the model is small towers that implement every optional method and an
objective that uses every output, so that any row runs in any combination.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.core import FrozenDict

from clipin_jax.core.learner import Learner
from clipin_jax.core.state import TrainState, create_state
from clipin_jax.core.step import make_train_step
from clipin_jax.models.base import Towers
from clipin_jax.models.layers import Linear
from clipin_jax.models.two_towers import TwoTowers
from clipin_jax.objectives.base import Inputs, ObjectiveModule
from clipin_jax.types import Array, Hyper, Metrics, TowerFeatures

BATCH, SIDE, LENGTH, VOCABULARY, WIDTH, EMBED_DIM = 4, 8, 6, 16, 8, 6
PAD = 0


class SmallImage(nn.Module):
    """An image tower: a linear layer over quarters of the image."""

    @nn.compact
    def __call__(self, image: Array, train: bool = False) -> TowerFeatures:
        tokens = Linear(WIDTH, name="embed")(image.reshape(image.shape[0], 4, -1))
        return {"tokens": tokens, "pooled": tokens.mean(axis=1)}


class SmallText(nn.Module):
    """A text tower: a table, and a linear layer for each optional method."""

    pad_id: int = PAD

    def setup(self) -> None:
        self.embed = nn.Embed(VOCABULARY, WIDTH)
        self.from_image, self.logits = Linear(WIDTH), Linear(VOCABULARY)

    def __call__(self, text: Array, train: bool = False) -> TowerFeatures:
        tokens = self.embed(text)
        return {"tokens": tokens, "pooled": tokens.mean(axis=1)}

    def fuse(
        self, text: Array, text_tokens: Array, image_tokens: Array, train: bool = False
    ) -> Array:
        return text_tokens + self.from_image(image_tokens.mean(axis=1))[:, None]

    def decode(
        self, text: Array, text_tokens: Array, image_tokens: Array, train: bool = False
    ) -> Array:
        return self.logits(self.fuse(text, text_tokens, image_tokens))

    def predict_masked(
        self, text: Array, image_tokens: Array, train: bool = False
    ) -> Array:
        return self.decode(text, self.embed(text), image_tokens)


class UseEverything(ObjectiveModule):
    """An objective of every output of both towers, and of every optional method."""

    def __call__(self, inputs: Inputs) -> tuple[Array, Metrics]:
        outputs = [
            f[name]
            for f in inputs.features.values()
            for name in ("tokens", "embedding")
        ]
        outputs += optional_outputs(inputs.towers, inputs)
        # The sine weighs entries differently: the sum of a normed vector is constant.
        return sum(jnp.mean(jnp.sin(3 * x)) for x in outputs), {}


def optional_outputs(towers: Towers, inputs: Inputs) -> list[Array]:
    """What the optional methods of the text tower return, those that it has."""
    tower: Any = towers.text
    text, tokens = inputs.view["text"], inputs.features["text"]["tokens"]
    image, train = inputs.features["image"]["tokens"], inputs.train
    calls = {
        "fuse": (text, tokens, image, train),
        "decode": (text, tokens, image, train),
        "predict_masked": (text, image, train),
    }
    methods = {name for name in calls if hasattr(type(tower), name)}
    return [getattr(tower, name)(*calls[name]) for name in sorted(methods)]


class LastGradient(NamedTuple):
    """The state of an optimizer that remembers the gradient of the last step."""

    gradient: Any


def gradient_descent(hyper: Hyper) -> optax.GradientTransformation:
    """An optimizer without options, whose state is the gradient."""

    def init(params: Any) -> LastGradient:
        return LastGradient(jax.tree.map(jnp.zeros_like, params))

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, LastGradient]:
        return jax.tree.map(lambda g: -0.3 * g, grads), LastGradient(grads)

    return optax.GradientTransformation(init, update)


def make_learner(
    image: nn.Module | None = None,
    text: nn.Module | None = None,
    objective: nn.Module | None = None,
) -> Learner:
    """A learner with one row of a table, and small parts for the others."""
    towers = TwoTowers(
        image=image or SmallImage(),
        text=text or SmallText(),
        embed_dim=EMBED_DIM,
        pre_projector=0,
        projection=FrozenDict(image="linear", text="linear"),
        image_mean=(0.5,) * 3,
        image_std=(0.5,) * 3,
    )
    objectives = FrozenDict(row=objective or UseEverything())
    return Learner(towers=towers, objectives=objectives)


def make_batch() -> dict[str, dict[str, np.ndarray]]:
    """Two views with everything that an objective may ask of the data."""
    rng = np.random.default_rng(0)

    def view() -> dict[str, np.ndarray]:
        text = rng.integers(1, VOCABULARY, (BATCH, LENGTH))
        text[:, -1] = PAD
        labels = np.where(np.arange(LENGTH) % 2, text, -100)
        ids = {f"{name}_id": np.arange(BATCH, dtype=np.int32) for name in MODALITIES}
        return ids | {
            "image": rng.integers(0, 256, (BATCH, SIDE, SIDE, 3), dtype=np.uint8),
            "text": text.astype(np.int32),
            "masked_text": np.where(labels >= 0, 1, text).astype(np.int32),
            "masked_labels": labels.astype(np.int32),
        }

    return {"view1": view(), "view2": view()}


MODALITIES = ("image", "text")


def make_hyper(learner: Learner) -> Hyper:
    """The class defaults of all scalars."""
    return {
        "seed": np.uint32(0),
        "optim": {"learning_rate": np.float32(0)},
        "target": {"decay": np.float32(0.9)},
        "objectives": {
            name: {k: np.float32(v) for k, v in objective.scalars.items()}
            for name, objective in learner.objectives.items()
        },
    }


@dataclasses.dataclass(frozen=True)
class Steps:
    """Two steps of a learner: states before and after, and the metrics of each."""

    learner: Learner
    batch: Any
    hyper: Hyper
    step: Any
    states: tuple[TrainState, TrainState, TrainState]
    metrics: tuple[Metrics, Metrics]

    @property
    def gradients(self) -> list[Any]:
        """The gradient of each step, trees of numpy arrays."""
        return [jax.device_get(state.opt_state.gradient) for state in self.states[1:]]


def run_steps(learner: Learner) -> Steps:
    """Runs two jitted steps from a new state."""
    batch, hyper = make_batch(), make_hyper(learner)
    step = jax.jit(make_train_step(learner, gradient_descent))
    start = jax.jit(
        lambda seed: create_state(learner, gradient_descent, batch, hyper, seed)
    )(0)
    first, metrics = step(start, batch, hyper)
    second, more = step(first, batch, hyper)
    return Steps(
        learner=learner,
        batch=batch,
        hyper=hyper,
        step=step,
        states=(start, first, second),
        metrics=(metrics, more),
    )


def through_bytes(state: TrainState) -> TrainState:
    """The state after a round trip through bytes, as a checkpoint does it."""
    leaves, structure = jax.tree.flatten(state)
    arrays = [np.asarray(leaf) for leaf in leaves]
    stored = [(x.tobytes(), x.dtype, x.shape) for x in arrays]
    read = [np.frombuffer(data, dtype).reshape(shape) for data, dtype, shape in stored]
    return jax.tree.unflatten(structure, [jnp.asarray(x) for x in read])


def unjitted_metrics(learner: Learner, steps: Steps, state: TrainState) -> Metrics:
    """The metrics of a step from a state, operation by operation."""
    with jax.disable_jit():
        train_step = make_train_step.__wrapped__(learner, gradient_descent)
        return train_step(state, steps.batch, steps.hyper)[1]


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves by path."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
