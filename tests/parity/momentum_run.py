"""Runs our code with the config, state and batches of a file of ALBEF or BLIP."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from clipin_jax.core.learner import build
from clipin_jax.core.optimizer_chain import make_optimizer
from clipin_jax.core.schedules import make_hyper
from clipin_jax.core.state import TrainState, select
from clipin_jax.core.step import make_train_step
from clipin_jax.objectives import matching
from tests.parity import forward
from tests.parity.compare import (
    FORWARD_TOLERANCE,
    GRADIENT_TOLERANCE,
    STATE_TOLERANCE,
    assert_close,
    deviation,
    key_biases,
    to_file_layout,
)
from tests.parity.configs import model_section, vit
from tests.parity.golden_files import GoldenFile
from tests.parity.steps import Step, first_gradient, initial_state, take_steps

PARAMETER_TOLERANCE = 1e-8  # Adam divides by sqrt(v) + 1e-8
CONTRASTIVE = "objectives_momentum_contrastive"
MODALITIES = ("image", "text")
# Both codes clip the temperature before the forward pass, we clip it after each step.
TEMPERATURE = (0.001, 0.5)
NEGATIVES = ("neg_image_for_text", "neg_text_for_image")  # in the order we draw them


def host_model_section(c: dict, embed_dim: int, text: dict) -> dict:
    """Returns the `model` section of a config with the sizes of a file."""
    image = vit(
        c, pool="cls", patch_bias=True, pre_norm=False, activation="gelu",
        norm_eps=c.get("v_eps", 1e-6),
    )  # fmt: skip
    sizes = dict(
        width=c["t_width"], num_heads=c["t_heads"], vocab_size=c["vocab"],
        mlp_ratio=c["t_mlp"] / c["t_width"], context_length=c["max_positions"],
    )  # fmt: skip
    projection = dict(image="linear", text="linear")
    return model_section(
        image, text | sizes, embed_dim=embed_dim, projection=projection
    )


def host_config(
    meta: dict, text: dict, objectives: dict, no_decay: tuple[str, ...] = ()
) -> ConfigDict:
    """Returns our config of the training run that a file describes."""
    c, (b1, b2) = meta["config"], meta["optimizer"]["betas"]
    # The share of each step comes from the file, see `MomentumRun.set_soft_labels`.
    for name in {"momentum_contrastive", "masked_lm"} & set(objectives):
        objectives[name]["distillation"] = 0.0
    objectives["momentum_contrastive"]["queue_length"] = c["queue"]
    optim = dict(
        learning_rate=c["lr"], weight_decay=c["weight_decay"], b1=b1, b2=b2,
        eps=meta["optimizer"]["eps"], clip_norm=0.0, no_decay=no_decay,
        bounds=((r"temperature/", *TEMPERATURE),),
    )  # fmt: skip
    return ConfigDict(
        dict(
            model=host_model_section(c, c["embed"], text), seed=0,
            objectives=objectives,
            target=dict(decay=c["momentum"], symmetric=False), optim=optim,
        )
    )  # fmt: skip


class MomentumRun:
    """Runs our learner with the inputs and weights of a file of ALBEF or BLIP.

    Attributes:
      file: the golden file.
      config: of our learner.
      to_tree: converts arrays by PyTorch names to a tree like ours.
      batch: returns the batch of a step.
      losses: name of our metric -> name of the loss in the file.
    """

    def __init__(
        self,
        file: GoldenFile,
        config: ConfigDict,
        to_tree: Callable,
        batch: Callable[[int], dict],
        losses: dict[str, str],
    ) -> None:
        self.file, self.config, self.to_tree = file, config, to_tree
        self.batch, self.losses = batch, {"loss": "total", **losses}
        self.learner = build(config)
        self.optimizer, self.b1 = make_optimizer(config.optim), config.optim.b1

    def apply(self, variables: dict, *inputs: Any, method: Any) -> Any:
        """Runs `learner.apply`, compiled as one program."""
        return forward.jit_apply(self.learner, variables, *inputs, method=method)

    def hyper(self, step: int) -> dict:
        """Returns the hyper-parameters of a step; steps count from 1."""
        hyper = make_hyper(self.config, self.learner.objectives)(step - 1)
        return self.set_soft_labels(hyper, step)

    def set_soft_labels(self, hyper: dict, step: int) -> dict:
        """Sets the share of soft labels to the one that the file has for a step."""
        for scalars in hyper["objectives"].values():
            if "distillation" in scalars:
                scalars["distillation"] = self.file[f"step{step}/inputs/alpha"]
        return hyper

    def params(self, prefix: str) -> dict[str, Any]:
        """Returns the parameters of a section, with the temperature clipped."""
        params = self.file.section(f"{prefix}/params/")
        return params | {"temp": np.clip(params["temp"], *TEMPERATURE)}

    @functools.cached_property
    def start(self) -> TrainState:
        """The state before step 1."""
        batch = self.batch(self.file.steps[0])
        like = jax.eval_shape(
            lambda: self.learner.init(jax.random.key(0), batch, method="targets")
        )
        buffers = self.file.section("init/buffers/")
        queue = {m: buffers[f"{m}_queue"].T for m in MODALITIES}
        queue["pointer"] = np.asarray(buffers["queue_ptr"][0], np.int32)
        ema = self.to_tree(self.file.section("init/ema/"))
        return initial_state(
            params=self.to_tree(self.params("init")),
            ema=select(ema, like["params"]),
            optimizer=self.optimizer,
            hyper=self.hyper(1),
            collections=jax.tree.map(
                jnp.asarray, {"queue": {CONTRASTIVE: {"queue": queue}}}
            ),
            target_collections={},
        )

    @functools.cached_property
    def steps(self) -> list[Step]:
        """Our results of all steps in the file, with the negatives of the file."""
        numbers = self.file.steps
        draws = (self.file.section(f"step{k}/draws/") for k in numbers)
        inputs = (
            (self.batch(k), self.hyper(k), {name: drawn[name] for name in NEGATIVES})
            for k, drawn in zip(numbers, draws, strict=True)
        )
        return take_steps(self.make_step_with_negatives(), self.start, inputs)

    def make_step_with_negatives(self) -> Callable:
        """Returns a compiled step that takes the negatives as its last argument."""
        train_step = make_train_step(self.learner, self.optimizer)

        @jax.jit
        def step(state: TrainState, batch: dict, hyper: dict, negatives: dict) -> Any:
            with fixed_negatives(negatives):
                return train_step(state, batch, hyper)

        return step

    def assert_steps_match(self) -> None:
        """Compares gradient, losses, parameters, targets and queues with the file."""
        gradient = first_gradient(self.steps[0].state, self.b1)
        wanted = self.file.section(f"step{self.file.steps[0]}/grads/")
        ours = to_file_layout(gradient, wanted, self.to_tree)
        assert_close(ours, wanted, GRADIENT_TOLERANCE, key_biases)
        for k, step in zip(self.file.steps, self.steps, strict=True):
            losses = self.file.section(f"step{k}/losses/")
            for ours, theirs in self.losses.items():
                assert (
                    deviation(step.metrics[ours], losses[theirs]) < FORWARD_TOLERANCE
                ), theirs
            params = self.params(f"step{k}")
            ours = to_file_layout(step.state.params, params, self.to_tree)
            assert_close(ours, params, PARAMETER_TOLERANCE)
            self._assert_targets_match(k, step)
            queue = step.state.collections["queue"][CONTRASTIVE]["queue"]
            assert_queue_matches(queue, self.file.section(f"step{k}/buffers/"))

    def _assert_targets_match(self, k: int, step: Step) -> None:
        """Compares the target parameters of a step; the file may have more."""
        ema, target = self.file.section(f"step{k}/ema/"), step.target_params
        ours = to_file_layout(
            target, ema, lambda arrays: select(self.to_tree(arrays), target)
        )
        assert_close(ours, {name: ema[name] for name in ours}, STATE_TOLERANCE)


def assert_queue_matches(queue: dict, buffers: dict) -> None:
    """Compares queues; ours has a key in each row, the file's in each column."""
    for modality in MODALITIES:
        ours = np.transpose(queue[modality])
        assert deviation(ours, buffers[f"{modality}_queue"]) < STATE_TOLERANCE, modality
    assert queue["pointer"] == buffers["queue_ptr"][0]


@contextlib.contextmanager
def fixed_negatives(negatives: dict[str, Any]) -> Iterator[None]:
    """Makes the matching objective use these negatives instead of drawing them."""
    names = itertools.cycle(NEGATIVES)

    def next_negatives(*_: Any, **__: Any) -> Any:
        return negatives[next(names)]

    with mock.patch.object(matching, "draw_hard_negatives", next_negatives):
        yield
