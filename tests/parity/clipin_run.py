"""Runs our code with the config, state and batches of CLIPin's golden files."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from clipin_jax.core.learner import build
from clipin_jax.core.optimizer_chain import make_optimizer
from clipin_jax.core.schedules import make_hyper
from clipin_jax.core.state import TrainState
from clipin_jax.core.step import make_train_step
from tests.parity.configs import model_section, text_transformer, vit
from tests.parity.forward import channels_last
from tests.parity.golden_files import GoldenFile
from tests.parity.names import CLIPIN, is_momentum, to_tree
from tests.parity.steps import Step, initial_state, take_steps

# The released code clamps these parameters.
BOUNDS = ((r"logit_scale$", 0.0, 4.6052), (r"learned_\w*weight/", 0.0, 20.0))
NO_DECAY = (r"ln_\w+/", r"bias$", r"logit_scale$")


def released_config(file: GoldenFile, **changes: Any) -> ConfigDict:
    """Returns our config of the model that a file describes."""
    c, meta = file.sizes, file.meta
    model = model_section(
        vit(c), text_transformer(c), embed_dim=c["contrast"], pre_projector=c["pre"],
        projection={},
    )  # fmt: skip
    clipin = dict(
        weight=1.0, inter_weight=1.0, intra_weight="learned",
        projection_dim=c["noncontrast"],
        predictor_hidden_dim=file["init/params/pred_layer1.0.weight"].shape[0],
    )  # fmt: skip
    rate = dict(
        schedule="warmup_cosine", peak=c["lr"], warmup_steps=c["warmup"],
        total_steps=c["total"], end=0.0,
    )  # fmt: skip
    (b1, b2), eps = meta["optimizer"]["betas"], meta["optimizer"]["eps"]
    optim = dict(
        learning_rate=rate, weight_decay=max(meta["optimizer"]["weight_decay"]),
        b1=b1, b2=b2, eps=eps, clip_norm=0.0, no_decay=NO_DECAY, bounds=BOUNDS,
    )  # fmt: skip
    config = ConfigDict(
        dict(
            model=model, seed=0, optim=optim,
            objectives=dict(contrastive=dict(weight="learned"), clipin=clipin),
            target=dict(decay=meta["momentum"], symmetric=False),
        )
    )  # fmt: skip
    config.update_from_flattened_dict(changes)
    return config


class ClipinRun:
    """Runs our learner with the inputs and weights of a golden file of CLIPin.

    Args:
      file: the golden file.
      changes: overrides of the released config.
    """

    def __init__(self, file: GoldenFile, **changes: Any) -> None:
        self.file, config = file, released_config(file, **changes)
        self.learner, self.b1 = build(config), config.optim.b1
        self.hyper = make_hyper(config, self.learner.objectives)
        self.optimizer = make_optimizer(config.optim)
        self.train_step = jax.jit(make_train_step(self.learner, self.optimizer))

    def start(self, **scalars: np.ndarray) -> TrainState:
        """Returns the state before step 1; `scalars` override its parameters."""
        online, target = batch_statistics(self.file.section("init/buffers/"))
        return initial_state(
            params=to_tree(CLIPIN, self.file.section("init/params/") | scalars),
            ema=to_tree(CLIPIN, self.file.section("init/ema/")),
            optimizer=self.optimizer,
            hyper=self.hyper(0),
            collections={"batch_stats": to_tree(CLIPIN, online)},
            target_collections={"batch_stats": to_tree(CLIPIN, target)},
        )

    def batch(self, step: int, target_tokens: np.ndarray | None = None) -> dict:
        """Returns the batch of a step; `target_tokens` replace the texts of view 2."""
        inputs = self.file.section(f"step{step}/inputs/")
        tokens = inputs["tokens"]
        second = tokens if target_tokens is None else target_tokens
        return {
            "view1": {"image": channels_last(inputs["x1"]), "text": tokens},
            "view2": {"image": channels_last(inputs["x2"]), "text": second},
        }

    @functools.cached_property
    def steps(self) -> list[Step]:
        """Our results of all steps in the file."""
        inputs = ((self.batch(k), self.hyper(k - 1)) for k in self.file.steps)
        return take_steps(self.train_step, self.start(), inputs)

    def after_last_step(self) -> tuple[Mapping[str, Any], dict, dict]:
        """Returns the parameters, and the variables of the online and target network.

        The reference averages at the start of a step: its target is the one that the
        step used.
        """
        last = self.steps[-1]
        target = {"params": last.target_params, **last.state.target_collections}
        return last.state.params, last.state.variables, target


def batch_statistics(buffers: dict[str, Any]) -> tuple[dict, dict]:
    """Splits batch statistics into those of the online and the target network."""
    target = {name: value for name, value in buffers.items() if is_momentum(name)}
    return {k: v for k, v in buffers.items() if k not in target}, target
