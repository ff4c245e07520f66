"""ALBEF and BLIP on our code: config, state, batches and steps of their files."""

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
from tests.parity import programs
from tests.parity.compare import assert_close, deviation, in_file_layout, key_biases
from tests.parity.configs import model_of, vit
from tests.parity.golden_files import GoldenFile
from tests.parity.programs import FORWARD, GRADIENT, MEMORY
from tests.parity.steps import Step, first_gradient, initial_state, take_steps

PARAMETER = 1e-8  # Adam divides by sqrt(v) + 1e-8
CONTRASTIVE = "objectives_momentum_contrastive"
MODALITIES = ("image", "text")
# Both codes clip the temperature before the forward pass, and so do we after each step.
TEMPERATURE = (0.001, 0.5)
DRAWS = ("neg_image_for_text", "neg_text_for_image")  # in our order


def host_model(c: dict, embed_dim: int, text: dict) -> dict:
    """The model part of a config, at the sizes of a file."""
    image = vit(
        c, pool="cls", patch_bias=True, pre_norm=False, activation="gelu",
        norm_eps=c.get("v_eps", 1e-6),
    )  # fmt: skip
    sizes = dict(
        width=c["t_width"], num_heads=c["t_heads"], vocab_size=c["vocab"],
        mlp_ratio=c["t_mlp"] / c["t_width"], context_length=c["max_positions"],
    )  # fmt: skip
    projection = dict(image="linear", text="linear")
    return model_of(image, text | sizes, embed_dim=embed_dim, projection=projection)


def host_config(
    meta: dict, text: dict, objectives: dict, no_decay: tuple[str, ...] = ()
) -> ConfigDict:
    """The config of a file that was trained, at its sizes."""
    c, (b1, b2) = meta["config"], meta["optimizer"]["betas"]
    # Each step takes its share from the file, see `MomentumRun.with_soft_labels`.
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
            model=host_model(c, c["embed"], text), objectives=objectives, seed=0,
            target=dict(decay=c["momentum"], symmetric=False), optim=optim,
        )
    )  # fmt: skip


class MomentumRun:
    """A golden file of ALBEF or BLIP beside our learner.

    Attributes:
      file: its numbers.
      config: of our learner.
      to_tree: from arrays under PyTorch names to a tree like ours.
      batch: from the number of a step to its batch.
      losses: names of our metrics to those of the file's losses.
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
        """`learner.apply`, compiled as a whole."""
        return programs.apply(self.learner, variables, *inputs, method=method)

    def hyper(self, step: int) -> dict:
        """The numbers of a step, from 1."""
        hyper = make_hyper(self.config, self.learner.objectives)(step - 1)
        return self.with_soft_labels(hyper, step)

    def with_soft_labels(self, hyper: dict, step: int) -> dict:
        """The numbers, with the share of soft labels that the file has for a step."""
        for numbers in hyper["objectives"].values():
            if "distillation" in numbers:
                numbers["distillation"] = self.file[f"step{step}/inputs/alpha"]
        return hyper

    def params(self, prefix: str) -> dict[str, Any]:
        """The parameters below a prefix, by name, with the temperature clipped."""
        params = self.file.below(f"{prefix}/params/")
        return params | {"temp": np.clip(params["temp"], *TEMPERATURE)}

    @functools.cached_property
    def start(self) -> TrainState:
        """The state before step 1."""
        batch = self.batch(self.file.steps[0])
        like = jax.eval_shape(
            lambda: self.learner.init(jax.random.key(0), batch, method="targets")
        )
        buffers = self.file.below("init/buffers/")
        queue = {m: buffers[f"{m}_queue"].T for m in MODALITIES}
        queue["pointer"] = np.asarray(buffers["queue_ptr"][0], np.int32)
        averages = self.to_tree(self.file.below("init/ema/"))
        return initial_state(
            self.to_tree(self.params("init")),
            select(averages, like["params"]),
            self.optimizer,
            self.hyper(1),
            jax.tree.map(jnp.asarray, {"queue": {CONTRASTIVE: {"queue": queue}}}),
            {},
        )

    @functools.cached_property
    def steps(self) -> list[Step]:
        """All steps of the file, with its negatives."""
        numbers = self.file.steps
        draws = (self.file.below(f"step{k}/draws/") for k in numbers)
        inputs = (
            (self.batch(k), self.hyper(k), {name: drawn[name] for name in DRAWS})
            for k, drawn in zip(numbers, draws, strict=True)
        )
        return take_steps(self.step_with_draws(), self.start, inputs)

    def step_with_draws(self) -> Callable:
        """A compiled step that takes the drawn negatives as its last argument."""
        train_step = make_train_step(self.learner, self.optimizer)

        @jax.jit
        def step(state: TrainState, batch: dict, hyper: dict, draws: dict) -> Any:
            with drawn_negatives(draws):
                return train_step(state, batch, hyper)

        return step

    def check_steps(self) -> None:
        """Compares all that the steps returned and left with the file."""
        gradient = first_gradient(self.steps[0].state, self.b1)
        wanted = self.file.below(f"step{self.file.steps[0]}/grads/")
        ours = in_file_layout(gradient, wanted, self.to_tree)
        assert_close(ours, wanted, GRADIENT, key_biases)
        for k, step in zip(self.file.steps, self.steps, strict=True):
            losses = self.file.below(f"step{k}/losses/")
            for ours, theirs in self.losses.items():
                assert deviation(step.metrics[ours], losses[theirs]) < FORWARD, theirs
            params = self.params(f"step{k}")
            ours = in_file_layout(step.state.params, params, self.to_tree)
            assert_close(ours, params, PARAMETER)
            self.check_averages(k, step)
            queue = step.state.collections["queue"][CONTRASTIVE]["queue"]
            check_queue(queue, self.file.below(f"step{k}/buffers/"))

    def check_averages(self, k: int, step: Step) -> None:
        """Compares the averages that a step used, those that we take."""
        averages = self.file.below(f"step{k}/ema/")
        used = step.target_params
        ours = in_file_layout(
            used, averages, lambda arrays: select(self.to_tree(arrays), used)
        )
        taken = {name: averages[name] for name in ours}
        assert_close(ours, taken, MEMORY)


def check_queue(queue: dict, buffers: dict) -> None:
    """Ours is stored row by row, the file's column by column."""
    for modality in MODALITIES:
        ours = np.transpose(queue[modality])
        assert deviation(ours, buffers[f"{modality}_queue"]) < MEMORY, modality
    assert queue["pointer"] == buffers["queue_ptr"][0]


@contextlib.contextmanager
def drawn_negatives(draws: dict[str, Any]) -> Iterator[None]:
    """Makes the matching objective take these negatives instead of drawing some."""
    names = itertools.cycle(DRAWS)

    def drawn(*_: Any, **__: Any) -> Any:
        return draws[next(names)]

    with mock.patch.object(matching, "draw_hard_negatives", drawn):
        yield
