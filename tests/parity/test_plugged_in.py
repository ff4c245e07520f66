"""With CLIPin plugged in, a host's other losses are still its own, in float64.

The plug-in stands on pooled features; matching, masked words and captions go on reading
raw tokens, so their golden values hold with it.
"""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from clipin_jax.config import plug_clipin
from clipin_jax.core.learner import build
from clipin_jax.core.schedules import make_hyper
from clipin_jax.core.state import select
from clipin_jax.objectives import matching
from tests.parity import test_albef, test_blip, test_coca
from tests.parity.compare import deviation
from tests.parity.momentum_run import FORWARD, QUICK
from tests.parity.torch_names import below, load

SMALL = dict(pre_projector=16, projection_dim=24, predictor_hidden_dim=8)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def plugged(config: ConfigDict, **view: str) -> ConfigDict:
    config = ConfigDict(config.to_dict())
    config.data = dict(views=1)
    config.optim = config.get("optim", dict(learning_rate=1e-3, weight_decay=0.0))
    config.seed = 0
    plug_clipin(config, **SMALL, **view)
    return config


def overlaid(tree, golden):
    """The tree with all that the golden one has too; heads of the host are others."""
    if not isinstance(tree, dict):
        return golden if np.shape(tree) == np.shape(golden) else tree
    return {k: overlaid(v, golden[k]) if k in golden else v for k, v in tree.items()}


def metrics_of(config, params, ema, batch):
    """All metrics under golden parameters; those of which there are none are 0.1."""
    learner, hyper = build(config), make_hyper(config, build(config).objectives)(0)
    key = jax.random.key(0)
    initial = jax.eval_shape(
        lambda: learner.init(key, batch, hyper, method="initialize")
    )
    initial = jax.tree.map(lambda x: np.full(x.shape, 0.1, x.dtype), initial)
    collections = {k: v for k, v in initial.items() if k != "params"}
    asked = jax.eval_shape(lambda: learner.init(key, batch, method="targets"))
    online = overlaid(initial["params"], params)
    target = overlaid(select(initial["params"], asked["params"]), ema)
    own = {k: select(collections[k], v) for k, v in asked.items() if k != "params"}

    def apply(online, target):
        targets, _ = learner.apply(target, batch, method="targets", mutable=list(own))
        (_, metrics), _ = learner.apply(
            online, batch, targets, hyper,
            mutable=list(collections), rngs={"sample": key},
        )  # fmt: skip
        return metrics

    variables = {"params": online, **collections}, {"params": target, **own}
    return jax.jit(apply, compiler_options=QUICK)(*variables)


@pytest.mark.parametrize("view", ["second", "second-separate"])
@pytest.mark.parametrize("host", [test_albef, test_blip])
def test_matching_words_and_captions(host, view, golden_folder, monkeypatch):
    name = host.__name__.rpartition("_")[2]
    arrays, meta = load(golden_folder, f"{name}_tiny.npz")
    captioning = dict(captioning=dict(weight=1.0, label_smoothing=0.1))
    run = host.run_of(arrays, meta, **(captioning if host is test_blip else {}))
    draws = iter([arrays[f"step1/draws/{k}"] for k in DRAWS] * 2)
    monkeypatch.setattr(matching, "draw_hard_negatives", lambda *_: next(draws))
    batch = host.batch_of(arrays, 1)
    other = np.random.default_rng(0).normal(size=batch["view1"]["image"].shape)
    # Only the plug-in sees the second view, unless all that ask are to.
    batch["view2"] = batch["view1"] | ({} if view == "second" else {"image": other})
    params, ema = run.tree("init/params/"), run.tree("step1/ema/")
    metrics = metrics_of(plugged(run.config, view=view), params, ema, batch)
    losses = below(arrays, "step1/losses/")
    for ours, theirs in host.LOSSES.items():
        if ours != "momentum_contrastive/loss":  # its heads are others now
            assert deviation(metrics[ours], losses[theirs]) < FORWARD, ours
    assert 0 < metrics["clipin/loss"] < 8


DRAWS = ("neg_image_for_text", "neg_text_for_image")


def test_captions_beside_a_contrast(golden_folder):
    arrays, meta = load(golden_folder, "coca_tiny.npz")
    [case] = [k for k, v in test_coca.MASKS.items() if v == "aligned"]
    config = plugged(test_coca.config_of(meta["config"], "aligned"))
    params = test_coca.coca_tree(below(arrays, "params/"))
    view = test_coca.view_of(arrays)
    metrics = metrics_of(config, params, params, {"view1": view, "view2": view})
    expected = arrays[f"{case}/losses/caption_weighted"]
    assert deviation(2 * metrics["captioning/loss"], expected) < FORWARD
