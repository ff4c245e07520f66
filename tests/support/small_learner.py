"""The smallest model around one tower or objective, and two training steps of it.

The other parts are towers that implement every optional method and an objective that
uses every output, so that every part works with every other.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict

from clipin_jax.core.learner import Learner
from clipin_jax.core.optimizer_chain import Optimizer
from clipin_jax.core.state import TrainState, create_state, select
from clipin_jax.models.base import Towers
from clipin_jax.models.layers import Linear
from clipin_jax.models.two_towers import TwoTowers
from clipin_jax.objectives.base import Inputs, ObjectiveModule
from clipin_jax.types import Array, Batch, Hyper, Metrics, TowerFeatures

T = TypeVar("T")
BATCH, SIDE, LENGTH, VOCABULARY, WIDTH, EMBED_DIM = 4, 8, 6, 16, 8, 6
PAD = 0
RATE = 0.3  # of gradient descent
MODALITIES = ("image", "text")


class SmallImage(nn.Module):
    """An image tower: a linear layer over quarters of the image."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Array, train: bool = False) -> TowerFeatures:
        embed = Linear(WIDTH, dtype=self.dtype, param_dtype=self.dtype, name="embed")
        tokens = embed(image.reshape(image.shape[0], 4, -1))
        return {"tokens": tokens, "pooled": tokens.mean(axis=1)}


class SmallText(nn.Module):
    """A text tower: a table, and a linear layer for each optional method."""

    pad_id: int = PAD
    dtype: Any = jnp.float32

    def setup(self) -> None:
        dtypes = dict(dtype=self.dtype, param_dtype=self.dtype)
        self.embed = nn.Embed(VOCABULARY, WIDTH, **dtypes)
        self.from_image = Linear(WIDTH, **dtypes)
        self.logits = Linear(VOCABULARY, **dtypes)

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
        return jnp.stack([jnp.mean(jnp.sin(3 * x)) for x in outputs]).sum(), {}


def optional_outputs(towers: Towers, inputs: Inputs) -> list[Array]:
    """Returns the outputs of those optional methods that the text tower has."""
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


def make_learner(
    image: nn.Module | None = None,
    text: nn.Module | None = None,
    *,
    dtype: Any = jnp.float32,
    **objectives: nn.Module,
) -> Learner:
    """Builds a learner; parts that are not given are the small ones, in `dtype`."""
    towers = TwoTowers(
        image=image or SmallImage(dtype=dtype),
        text=text or SmallText(dtype=dtype),
        embed_dim=EMBED_DIM,
        pre_projector=0,
        projection=FrozenDict(image="linear", text="linear"),
        image_mean=(0.5,) * 3,
        image_std=(0.5,) * 3,
        dtype=dtype,
        param_dtype=dtype,
    )
    objectives = objectives or {"everything": UseEverything()}
    return Learner(towers=towers, objectives=FrozenDict(objectives))


def make_batch(rows: int = BATCH) -> Any:
    """Returns two views with all data that objectives may read."""
    rng = np.random.default_rng(0)

    def view() -> dict[str, np.ndarray]:
        text = rng.integers(1, VOCABULARY, (rows, LENGTH))
        text[:, -1] = PAD
        labels = np.where(np.arange(LENGTH) % 2, text, -100)
        ids = {f"{name}_id": np.arange(rows, dtype=np.int32) for name in MODALITIES}
        return ids | {
            "image": rng.integers(0, 256, (rows, SIDE, SIDE, 3), dtype=np.uint8),
            "text": text.astype(np.int32),
            "masked_text": np.where(labels >= 0, 1, text).astype(np.int32),
            "masked_labels": labels.astype(np.int32),
        }

    return {"view1": view(), "view2": view()}


def make_hyper(learner: Learner) -> Hyper:
    """Returns the class defaults of all scalars."""
    return {
        "seed": np.uint32(0),
        "optim": {"learning_rate": np.float32(0), "weight_decay": np.float32(0)},
        "objectives": {
            name: {k: np.float32(v) for k, v in objective.scalars.items()}
            for name, objective in learner.objectives.items()
        },
    }


def start_state(learner: Learner, batch: Batch, hyper: Hyper) -> TrainState:
    """Returns a state before the first step, with random values.

    Initialisers are traced for their shapes, but not run: compiling them takes longer
    than a step.
    """
    optimizer, rng = Optimizer(rule=lambda decay: decay), np.random.default_rng(0)
    state = jax.eval_shape(lambda: create_state(learner, optimizer, batch, hyper))

    def draw(leaf: jax.ShapeDtypeStruct) -> Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.zeros(leaf.shape, leaf.dtype)
        return jnp.asarray(rng.normal(0, 0.4, leaf.shape), leaf.dtype)

    params = jax.tree.map(draw, state.params)
    # Variances must not be negative.
    state = jax.tree.map(lambda leaf: jnp.abs(draw(leaf)), state)
    return dataclasses.replace(
        state, params=params, target_params=select(params, state.target_params)
    )


def forward(
    learner: Learner, params: Any, state: TrainState, batch: Batch, hyper: Hyper
) -> tuple[Array, tuple[Metrics, Any]]:
    """Returns the loss, the metrics and the new collections of both branches."""
    rngs = {
        name: jax.random.fold_in(jax.random.key(seed), state.step)
        for seed, name in enumerate(("dropout", "sample"))
    }
    targets, target_collections = learner.apply(
        state.target_variables, batch, method="targets",
        mutable=list(state.target_collections), rngs=rngs,
    )  # fmt: skip
    (loss, metrics), collections = learner.apply(
        {"params": params, **state.collections}, batch, targets, hyper,
        mutable=list(state.collections), rngs=rngs,
    )  # fmt: skip
    return loss, (metrics, (collections, target_collections))


class Step(NamedTuple):
    """The results of a step."""

    state: TrainState
    metrics: Metrics
    gradient: Any


@functools.partial(jax.jit, static_argnums=0)
def step(learner: Learner, state: TrainState, batch: Batch, hyper: Hyper) -> Step:
    """Takes one step of gradient descent."""
    gradient_fn = jax.value_and_grad(forward, argnums=1, has_aux=True)
    (_, (metrics, collections)), gradient = gradient_fn(
        learner, state.params, state, batch, hyper
    )
    params = jax.tree.map(lambda p, g: p - RATE * g, state.params, gradient)
    online, target = collections
    new = dataclasses.replace(
        state, step=state.step + 1, params=params, collections=online,
        target_params=select(params, state.target_params), target_collections=target,
    )  # fmt: skip
    return Step(new, metrics, gradient)


def through_bytes(tree: T) -> T:
    """Writes a tree to bytes and reads it again, as a checkpoint does."""
    leaves, structure = jax.tree.flatten(jax.device_get(tree))
    written = [(x.tobytes(), x.dtype, x.shape) for x in map(np.asarray, leaves)]
    arrays = [
        np.frombuffer(data, dtype).reshape(shape) for data, dtype, shape in written
    ]
    return jax.tree.unflatten(structure, [jnp.asarray(x) for x in arrays])


class TwoSteps:
    """Two steps of a learner from a new state.

    Attributes:
      learner: the result of `make`, which `unjitted` calls again.
      start: the state before the first step.
      first, second: the results of the steps.
    """

    def __init__(self, make: Callable[[], Learner]) -> None:
        self.make, self.learner, self.batch = make, make(), make_batch()
        self.hyper = make_hyper(self.learner)
        self.start = start_state(self.learner, self.batch, self.hyper)
        self.first = step(self.learner, self.start, self.batch, self.hyper)
        self.second = self.resumed(self.first.state)

    def resumed(self, state: TrainState) -> Step:
        """Takes a jitted step from a state."""
        return step(self.learner, state, self.batch, self.hyper)

    def unjitted(self, state: TrainState) -> Metrics:
        """Returns the metrics of a step that a new learner takes without compiling."""
        arguments = (self.make(), state.params, state, self.batch, self.hyper)
        return forward(*arguments)[1][0]


def by_path(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a tree by path."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def assert_finite(steps: TwoSteps) -> None:
    """Asserts that loss, metrics, gradients and states are finite, metrics scalars."""
    for result in (steps.first, steps.second):
        assert result.metrics["loss"].shape == ()
        for path, leaf in by_path(result).items():
            assert np.all(np.isfinite(leaf)), path
        for name, value in result.metrics.items():
            assert value.shape == (), f"metric {name} is no scalar"


def assert_every_parameter_learns(steps: TwoSteps, prefix: str) -> None:
    """Asserts that each parameter below a prefix has a gradient in one of the steps."""
    gradients = [by_path(step.gradient) for step in (steps.first, steps.second)]
    paths = [path for path in gradients[0] if path.startswith(prefix)]
    unreached = [p for p in paths if not any(np.any(g[p]) for g in gradients)]
    assert not unreached, f"no gradient reaches {unreached}"


def assert_resumes(steps: TwoSteps) -> None:
    """Asserts that a step from a restored state equals one from the original state.

    The jitted step is equal bit for bit, the unjitted one of a new learner up to
    rounding. They differ if a module keeps state in Python instead of its variables.
    """
    restored = through_bytes(steps.first.state)
    again = steps.resumed(restored)
    for (path, x), y in zip(
        by_path(again).items(), by_path(steps.second).values(), strict=True
    ):
        np.testing.assert_array_equal(x, y, err_msg=path)
    metrics = steps.unjitted(restored)
    assert set(metrics) == set(steps.second.metrics)
    for name, value in metrics.items():
        expected = steps.second.metrics[name]
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5, err_msg=name)
