"""Plugging CLIPin into a host leaves its other losses unchanged, in float64.

The plug-in reads pooled features. Matching, masked words and captions read raw tokens,
so their golden losses hold with it.
"""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from clipin_jax.config import plug_clipin
from clipin_jax.core.learner import build
from clipin_jax.core.schedules import make_hyper
from clipin_jax.core.state import select
from tests.parity import test_coca
from tests.parity.compare import FORWARD_TOLERANCE, deviation
from tests.parity.golden_files import load
from tests.parity.momentum_run import fixed_negatives
from tests.parity.names import COCA

SMALL = dict(pre_projector=16, projection_dim=24, predictor_hidden_dim=8)


def plug(config: ConfigDict, **view: str) -> ConfigDict:
    config = ConfigDict(config.to_dict())
    config.data = dict(views=1)
    config.optim = config.get("optim", dict(learning_rate=1e-3, weight_decay=0.0))
    config.seed = 0
    plug_clipin(config, **SMALL, **view)
    return config


def overlay(tree, golden):
    """Replaces leaves of a tree by golden ones that have the same path and shape."""
    if not isinstance(tree, dict):
        return golden if np.shape(tree) == np.shape(golden) else tree
    return {k: overlay(v, golden[k]) if k in golden else v for k, v in tree.items()}


def build_learner(config):
    """Returns the learner of a config, and the hyper-parameters of its first step."""
    learner = build(config)
    return learner, make_hyper(config, learner.objectives)(0)


def compute_metrics(learner, hyper, *, params, ema, batch):
    """Returns all metrics at golden parameters; parameters without a value are 0.1."""
    key = jax.random.key(0)
    initial, requested = jax.eval_shape(
        lambda: (
            learner.init(key, batch, hyper, method="initialize"),
            learner.init(key, batch, method="targets"),
        )
    )
    initial = jax.tree.map(lambda x: np.full(x.shape, 0.1, x.dtype), initial)
    collections = {k: v for k, v in initial.items() if k != "params"}
    params = overlay(initial["params"], params)
    target = overlay(select(initial["params"], requested["params"]), ema)
    target_collections = {
        k: select(collections[k], v) for k, v in requested.items() if k != "params"
    }

    @jax.jit
    def apply(online, target):
        targets, _ = learner.apply(
            target, batch, method="targets", mutable=list(target_collections)
        )
        (_, metrics), _ = learner.apply(
            online, batch, targets, hyper,
            mutable=list(collections), rngs={"sample": key},
        )  # fmt: skip
        return metrics

    return apply(
        {"params": params, **collections}, {"params": target, **target_collections}
    )


@pytest.mark.parametrize("view", ["second", "second-separate"])
@pytest.mark.parametrize("host", ["albef", "blip"])
def test_other_losses_are_unchanged(host, view, request):
    run = request.getfixturevalue(host)
    learner, hyper = build_learner(plug(run.config, view=view))
    batch, start = run.batch(1), run.start
    other = np.random.default_rng(0).normal(size=batch["view1"]["image"].shape)
    # Only the plug-in sees the second view, unless all objectives with a target do.
    batch["view2"] = batch["view1"] | ({} if view == "second" else {"image": other})
    with fixed_negatives(run.file.section("step1/draws/")):
        hyper = run.set_soft_labels(hyper, 1)
        metrics = compute_metrics(
            learner, hyper, params=start.params, ema=start.target_params, batch=batch
        )
    losses = run.file.section("step1/losses/")
    for ours, theirs in run.losses.items():
        # The plug-in adds a pre-projector, so this loss and the sum change.
        if ours not in ("loss", "momentum_contrastive/loss"):
            assert deviation(metrics[ours], losses[theirs]) < FORWARD_TOLERANCE, ours
    assert 0 < metrics["clipin/loss"] < 8


def test_captioning_loss_is_unchanged(golden_folder):
    file = load(golden_folder, "coca_tiny.npz")
    [case] = [k for k, v in test_coca.MASKS.items() if v == "aligned"]
    config = plug(test_coca.make_config(file.sizes, "aligned"))
    params, view = COCA.to_tree(file.section("params/")), test_coca.read_view(file)
    batch = {"view1": view, "view2": view}
    metrics = compute_metrics(
        *build_learner(config), params=params, ema=params, batch=batch
    )
    ours = file.sizes["caption_weight"] * metrics["captioning/loss"]
    assert deviation(ours, file[f"{case}/losses/caption_weighted"]) < FORWARD_TOLERANCE
