"""Runs the golden files of ALBEF and BLIP: their config, state, batches and checks."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from clipin_jax.core.learner import build
from clipin_jax.core.optimizer_chain import make_optimizer
from clipin_jax.core.schedules import make_hyper
from clipin_jax.core.state import TrainState, select
from clipin_jax.core.step import make_train_step
from clipin_jax.objectives import matching
from tests.parity.compare import assert_tree_close, deviation
from tests.parity.torch_names import below

FORWARD, GRADIENT, PARAMETER, MEMORY = 1e-11, 1e-10, 1e-8, 1e-9
# The step is compiled once and run twice: what XLA would gain is lost in compiling.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
CONTRASTIVE = "objectives_momentum_contrastive"


def host_config(meta: dict, text: dict, objectives: dict, no_decay=()) -> ConfigDict:
    """The config of a golden file's model, at its sizes."""
    c = meta["config"]
    model = dict(
        embed_dim=c["embed"], pre_projector=0,
        projection=dict(image="linear", text="linear"), embedding_from="",
        dtype="float64", param_dtype="float64", scan_layers=False, remat=False,
        image_mean=(0.5,) * 3, image_std=(0.5,) * 3,
        image=image_tower(c),
        text=dict(
            width=c["t_width"], num_heads=c["t_heads"], vocab_size=c["vocab"],
            mlp_ratio=c["t_mlp"] / c["t_width"], context_length=c["max_positions"],
            **text,
        ),
    )  # fmt: skip
    first, second = c["alphas"]
    share = dict(schedule="linear", start=first, end=second, total_steps=1)
    for name in {"momentum_contrastive", "masked_lm"} & set(objectives):
        objectives[name]["distillation"] = share
    objectives["momentum_contrastive"]["queue_length"] = c["queue"]
    optimizer = meta["optimizer"]
    optim = dict(
        learning_rate=c["lr"], weight_decay=c["weight_decay"],
        b1=optimizer["betas"][0], b2=optimizer["betas"][1], eps=optimizer["eps"],
        clip_norm=0.0, no_decay=no_decay, bounds=((r"temperature/", 0.001, 0.5),),
    )  # fmt: skip
    target = dict(decay=c["momentum"], symmetric=False)
    return ConfigDict(
        dict(model=model, objectives=objectives, seed=0, target=target, optim=optim)
    )


def image_tower(c: dict) -> dict:
    """The image tower of both codes."""
    return dict(
        name="vit", patch_size=(c["patch"],) * 2, image_size=(c["image"],) * 2,
        width=c["v_width"], depth=c["v_layers"], num_heads=c["v_heads"],
        pool="cls", patch_bias=True, pre_norm=False, activation="gelu", norm_eps=1e-6,
    )  # fmt: skip


class GoldenRun:
    """One golden file: its arrays beside our learner, and the steps of both.

    Attributes:
      config: of our learner.
      to_tree: from arrays under PyTorch names to our tree.
    """

    def __init__(self, arrays: dict, config: ConfigDict, to_tree: Callable) -> None:
        self.arrays, self.config, self.to_tree = arrays, config, to_tree
        self.learner = build(config)
        self.hyper = make_hyper(config, self.learner.objectives)
        self.optimizer, self.b1 = make_optimizer(config.optim), config.optim.b1

    def tree(self, prefix: str) -> dict:
        """A part of the file in our layout."""
        return self.to_tree(below(self.arrays, prefix))

    def queue(self, prefix: str) -> dict:
        """The queues of the file: ours are row by row."""
        buffers = below(self.arrays, f"{prefix}/buffers/")
        rows = {m: buffers[f"{m}_queue"].T for m in ("image", "text")}
        pointer = np.asarray(buffers["queue_ptr"][0], np.int32)
        return {CONTRASTIVE: {"queue": {**rows, "pointer": pointer}}}

    def target(self, prefix: str, like: Any) -> dict:
        """The averaged parameters of the file, those that we average."""
        return select(self.tree(f"{prefix}/ema/"), like)

    def start(self, batch: dict) -> TrainState:
        """The state of the file, with the reference's first average taken.

        The reference averages before the forward pass, we at the end of a step.
        """
        key = jax.random.key(0)
        like = jax.eval_shape(lambda: self.learner.init(key, batch, method="targets"))
        params, decay = self.tree("init/params/"), self.hyper(0)["target"]["decay"]
        target_params = jax.tree.map(
            lambda xi, theta: decay * xi + (1 - decay) * theta,
            self.target("init", like["params"]),
            select(params, like["params"]),
        )
        zero = np.zeros((), np.int32)
        return TrainState(
            step=zero, skipped=zero, skipped_in_a_row=zero, params=params,
            collections=jax.tree.map(jnp.asarray, {"queue": self.queue("init")}),
            opt_state=self.optimizer(self.hyper(0)).init(params),
            target_params=target_params, target_collections={},
        )  # fmt: skip

    def apply(self, variables: dict, *inputs: Any, method: Any) -> Any:
        """`learner.apply`, compiled as a whole."""
        function = functools.partial(self.learner.apply, method=method)
        return jax.jit(function, compiler_options=QUICK)(variables, *inputs)

    def first_gradient(self, average: Any) -> Any:
        """The gradient of step 1 from Adam's average of it."""
        return average / (1 - self.b1)

    def step_with_draws(self, monkeypatch: Any) -> Callable:
        """A compiled step that takes the drawn negatives as its last argument."""
        train_step, current = make_train_step(self.learner, self.optimizer), {}
        names = itertools.cycle(("neg_image_for_text", "neg_text_for_image"))
        monkeypatch.setattr(
            matching, "draw_hard_negatives", lambda *_, **__: current[next(names)]
        )

        def step(state: TrainState, batch: dict, hyper: Any, draws: dict) -> Any:
            current.update(draws)
            return train_step(state, batch, hyper)

        return jax.jit(step, compiler_options=QUICK)

    def check_steps(self, monkeypatch: Any, batches: list, losses: dict) -> None:
        """Takes steps, and compares all that they say and leave behind."""
        step, state = self.step_with_draws(monkeypatch), self.start(batches[0])
        for k, batch in enumerate(batches, start=1):
            draws = below(self.arrays, f"step{k}/draws/")
            used_target = state.target_params
            state, metrics = step(state, batch, self.hyper(k - 1), draws)
            assert_losses(metrics, below(self.arrays, f"step{k}/losses/"), losses)
            if k == 1:
                grads = jax.tree.map(
                    self.first_gradient, optax.tree.get(state.opt_state, "mu")
                )
                assert_gradients(grads, self.tree("step1/grads/"))
            assert_tree_close(state.params, self.tree(f"step{k}/params/"), PARAMETER)
            expected = self.target(f"step{k}", used_target)
            assert_tree_close(used_target, expected, MEMORY)
            queue = self.queue(f"step{k}")
            assert_tree_close(state.collections["queue"], queue, MEMORY)


def assert_losses(metrics: dict, losses: dict, names: dict) -> None:
    """Our metrics against the file's losses."""
    for ours, theirs in {"loss": "total", **names}.items():
        assert deviation(metrics[ours], losses[theirs]) < FORWARD, theirs


def assert_gradients(ours: Any, wanted: Any) -> None:
    """Key biases cannot influence the loss: rounding noise."""

    def zero(path: str) -> Any:
        if path.endswith("key/bias"):
            return ...
        if not path.endswith("qkv/bias"):
            return None
        third = wanted["towers"]["image"]["ln_post"]["bias"].shape[0]
        return np.s_[third : 2 * third]

    assert_tree_close(ours, wanted, GRADIENT, zero)
