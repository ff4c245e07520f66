"""With CLIPin plugged in, the other losses of a host stay as they were, in float64.

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
from tests.parity.compare import deviation
from tests.parity.golden_files import load
from tests.parity.momentum_run import drawn_negatives
from tests.parity.names.coca import to_tree
from tests.parity.programs import FORWARD

SMALL = dict(pre_projector=16, projection_dim=24, predictor_hidden_dim=8)


def plugged(config: ConfigDict, **view: str) -> ConfigDict:
    config = ConfigDict(config.to_dict())
    config.data = dict(views=1)
    config.optim = config.get("optim", dict(learning_rate=1e-3, weight_decay=0.0))
    config.seed = 0
    plug_clipin(config, **SMALL, **view)
    return config


def overlaid(tree, golden):
    """The tree, with leaves of the golden one where both have one of the same shape."""
    if not isinstance(tree, dict):
        return golden if np.shape(tree) == np.shape(golden) else tree
    return {k: overlaid(v, golden[k]) if k in golden else v for k, v in tree.items()}


def learner_and_numbers(config):
    learner = build(config)
    return learner, make_hyper(config, learner.objectives)(0)


def metrics_of(learner, hyper, params, averages, batch):
    """All metrics under golden parameters; those without a golden value are 0.1."""
    key = jax.random.key(0)
    initial, asked = jax.eval_shape(
        lambda: (
            learner.init(key, batch, hyper, method="initialize"),
            learner.init(key, batch, method="targets"),
        )
    )
    initial = jax.tree.map(lambda x: np.full(x.shape, 0.1, x.dtype), initial)
    collections = {k: v for k, v in initial.items() if k != "params"}
    params = overlaid(initial["params"], params)
    target = overlaid(select(initial["params"], asked["params"]), averages)
    kept = {k: select(collections[k], v) for k, v in asked.items() if k != "params"}

    @jax.jit
    def apply(online, target):
        targets, _ = learner.apply(target, batch, method="targets", mutable=list(kept))
        (_, metrics), _ = learner.apply(
            online, batch, targets, hyper,
            mutable=list(collections), rngs={"sample": key},
        )  # fmt: skip
        return metrics

    return apply({"params": params, **collections}, {"params": target, **kept})


@pytest.mark.parametrize("view", ["second", "second-separate"])
@pytest.mark.parametrize("host", ["albef", "blip"])
def test_matching_words_and_captions(host, view, request):
    run = request.getfixturevalue(host)
    learner, hyper = learner_and_numbers(plugged(run.config, view=view))
    batch, start = run.batch(1), run.start
    other = np.random.default_rng(0).normal(size=batch["view1"]["image"].shape)
    # Only the plug-in sees the second view, unless all objectives with a target do.
    batch["view2"] = batch["view1"] | ({} if view == "second" else {"image": other})
    with drawn_negatives(run.file.below("step1/draws/")):
        hyper = run.with_soft_labels(hyper, 1)
        metrics = metrics_of(learner, hyper, start.params, start.target_params, batch)
    losses = run.file.below("step1/losses/")
    for ours, theirs in run.losses.items():
        # The contrastive heads are others, so this loss and the sum change.
        if ours not in ("loss", "momentum_contrastive/loss"):
            assert deviation(metrics[ours], losses[theirs]) < FORWARD, ours
    assert 0 < metrics["clipin/loss"] < 8


def test_captions_beside_a_contrast(golden_folder):
    file = load(golden_folder, "coca_tiny.npz")
    [case] = [k for k, v in test_coca.MASKS.items() if v == "aligned"]
    config = plugged(test_coca.config_of(file.sizes, "aligned"))
    params, view = to_tree(file.below("params/")), test_coca.view_of(file)
    batch = {"view1": view, "view2": view}
    metrics = metrics_of(*learner_and_numbers(config), params, params, batch)
    ours = file.sizes["caption_weight"] * metrics["captioning/loss"]
    assert deviation(ours, file[f"{case}/losses/caption_weighted"]) < FORWARD
