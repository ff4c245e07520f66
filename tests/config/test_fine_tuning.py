"""Recipes for models that are trained already: `finetune`, `lit`, `fixed_set`."""

import jax
import numpy as np
import pytest
from PIL import Image

from clipin_jax.config import followers, load_config
from clipin_jax.core.parameter_paths import paths_of
from clipin_jax.errors import DONE, ClipinError
from clipin_jax.runs.build import build_experiment
from clipin_jax.training.loop import train
from tests.support import tiny_runs

FROM = ("init_from=/model",)
TINY = ("model.text.vocab_size=64", "model.image.depth=1", "model.text.depth=1")


def test_fine_tuning_is_slow_short_and_scored_from_the_start():
    config = load_config(
        "clip:finetune,data=/pairs,labels=category,fixed_set=/other", FROM
    )
    assert config.name == "clip_finetune"
    rate = config.optim.learning_rate
    assert (rate.peak, rate.warmup_steps) == (pytest.approx(1e-5), 100)
    assert rate.total_steps == config.total_steps == 2000
    assert "optim.learning_rate.total_steps" in followers(config, "total_steps")
    assert config.optim.layer_decay == 0.8
    assert config.checkpoint.best_metric == "retrieval/text_to_image_R@1"
    assert config.checkpoint.every_steps == 200
    for name in ("retrieval", "zero_shot", "fixed_set"):
        assert config.evals[name].at_start and config.evals[name].every_steps == 200
    assert "at_start" not in config.evals.linear_probe
    assert config.evals.fixed_set.source.folder == "/other"


def test_a_fixed_set_alone_is_one_more_evaluation():
    plain, config = map(
        load_config, ("clip:data=/pairs", "clip:data=/pairs,fixed_set=/o")
    )
    assert set(config.evals) - set(plain.evals) == {"fixed_set"}
    assert config.total_steps == plain.total_steps
    with pytest.raises(ClipinError, match="'fixed_set' needs a value"):
        load_config("clip:fixed_set")


@pytest.mark.parametrize(
    "more", ["", ",tower=RN50", ",variant=S/16", ",small", ",clipin=released"]
)
def test_options_combine(more):
    config = load_config(f"clip:finetune,lit,data=/pairs{more}", FROM)
    assert config.name.endswith("_finetune_lit")
    assert config.optim.groups[0] == (r"^towers/image/", {"freeze": True})
    assert 1e-5 <= config.optim.learning_rate.peak <= 2e-5


@pytest.mark.parametrize("option", ["finetune", "lit"])
def test_weights_to_start_from_are_required(option):
    with pytest.raises(ClipinError, match="needs a value for init_from"):
        load_config(f"clip:{option},data=/pairs")
    assert load_config(f"clip:{option},runlocal").init_from == ""


def test_the_plug_in_keeps_projections_and_its_heads_learn_faster():
    host = build_experiment(load_config("clip:runlocal,finetune", TINY))
    config = load_config("clip:runlocal,finetune,clipin", TINY)
    run = build_experiment(config)
    plain, params = (set(paths_of(r.abstract_state.params)) for r in (host, run))
    assert plain < params
    assert all(path.startswith("objectives_clipin/") for path in params - plain)
    assert config.optim.groups == ((r"^objectives_clipin/", {"learning_rate": 50.0}),)


def test_lit_trains_all_but_the_image_tower():
    run = build_experiment(load_config("clip:runlocal,lit", TINY))
    trained, frozen = map(paths_of, run.optimizer.split(run.abstract_state.params))
    assert frozen and all(path.startswith("towers/image/") for path in frozen)
    assert {"towers/image_projection/kernel", "towers/text_projection/kernel"} <= {
        *trained
    }
    assert not any(path.startswith("towers/image/") for path in trained)


def test_what_is_forgotten_is_measured_before_during_and_after(tmp_path):
    for k, name in enumerate(("cat", "dog")):
        (tmp_path / "fixed" / name).mkdir(parents=True)
        pixels = np.full((32, 32, 3), 100 * k, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "fixed" / name / "0.png")
    config = load_config(
        f"clip:finetune,runlocal,fixed_set={tmp_path / 'fixed'}",
        ("total_steps=2", "batch_size=8", "data.source.length=16",
         "log.tensorboard=false", "evals.retrieval.source.length=8",
         "evals.fixed_set.every_steps=1", "model.lora.image.rank=2",
         "model.lora.text.rank=2", *TINY[1:]),
    )  # fmt: skip
    with tiny_runs.on_one_device():
        assert train(config, tmp_path / "run") == DONE
    rows = tiny_runs.metric_rows(tmp_path / "run")
    metric = "fixed_set/mean_per_class_recall"
    assert [row["step"] for row in rows if metric in row] == [0, 1, 2]
    start, end = (tiny_runs.load_state(config, tmp_path / "run", k)[0] for k in (1, 2))
    same = jax.tree.map(
        lambda x, y: bool(np.array_equal(x, y)), start.params, end.params
    )
    moved = [
        p
        for p, equal in zip(paths_of(same), jax.tree.leaves(same), strict=True)
        if not equal
    ]
    towers = [
        path for path in moved if path.startswith(("towers/image/", "towers/text/"))
    ]
    assert towers and all(path.endswith(("lora_a", "lora_b")) for path in towers)
