"""The released CLIPin, number by number, in float64.

Golden files: four optimizer steps, variants, and evaluation of the released code on a
tiny model. Sizes come from the files.
"""

import dataclasses
import re

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from clipin_jax.core.learner import build
from clipin_jax.core.optimizer_chain import make_optimizer
from clipin_jax.core.schedules import make_hyper
from clipin_jax.core.state import TrainState, select
from clipin_jax.core.step import make_train_step
from tests.parity.compare import assert_tree_close, deviation, stacked
from tests.parity.torch_names import below, load, our_array, our_path, to_tree

FORWARD, GRADIENT, PARAMETER, MEMORY = 1e-11, 1e-10, 1e-9, 1e-9


def released_config(meta: dict, **changes) -> ConfigDict:
    """The config of the golden file's model, at its sizes."""
    c, optimizer = meta["config"], meta["optimizer"]
    config = ConfigDict(
        dict(
            model=dict(
                embed_dim=c["contrast"], pre_projector=c["pre"],
                projection={}, embedding_from="", dtype="float64",
                param_dtype="float64", scan_layers=False, remat=False,
                image_mean=(0.5,) * 3, image_std=(0.5,) * 3,
                image=dict(
                    name="vit", patch_size=(c["patch"],) * 2,
                    image_size=(c["image"],) * 2, width=c["v_width"],
                    depth=c["v_layers"], num_heads=c["v_heads"],
                ),
                text=dict(
                    name="text_transformer", width=c["t_width"], depth=c["t_layers"],
                    num_heads=c["t_heads"], context_length=c["context"],
                    vocab_size=c["vocab"],
                ),
            ),
            objectives=dict(
                contrastive=dict(weight="learned"),
                clipin=dict(
                    weight=1.0, inter_weight=1.0, intra_weight="learned",
                    projection_dim=c["noncontrast"],
                    predictor_hidden_dim=meta["predictor_hidden"],
                ),
            ),
            seed=0, target=dict(decay=meta["momentum"], symmetric=False),
            optim=dict(
                learning_rate=dict(
                    schedule="warmup_cosine", peak=c["lr"], warmup_steps=c["warmup"],
                    total_steps=c["total"], end=0.0,
                ),
                weight_decay=meta["weight_decay"], b1=optimizer["betas"][0],
                b2=optimizer["betas"][1], eps=optimizer["eps"], clip_norm=0.0,
                no_decay=(r"ln_\w+/", r"bias$", r"logit_scale$"),
                bounds=(
                    (r"logit_scale$", 0.0, 4.6052), (r"learned_\w*weight/", 0.0, 20.0),
                ),
            ),
        )
    )  # fmt: skip
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module", autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def golden(golden_folder):
    arrays, meta = load(golden_folder, "clipin_tiny.npz")
    meta["predictor_hidden"] = arrays["init/params/pred_layer1.0.weight"].shape[0]
    meta["weight_decay"] = max(meta["optimizer"]["weight_decay"])
    return arrays, meta


def start(arrays, learner, optimizer, hyper, **scalars):
    """The golden initial state, with the released code's first average taken.

    The release averages inside the forward pass, before the target is used; we average
    at the end of a step. Taken once beforehand, ours is the same sequence.
    """
    params = to_tree(below(arrays, "init/params/") | scalars)
    ema = to_tree(below(arrays, "init/ema/"))
    online, target = batch_stats(arrays, "init/buffers/")
    decay = hyper["target"]["decay"]
    target_params = jax.tree.map(
        lambda xi, theta: decay * xi + (1 - decay) * theta, ema, select(params, ema)
    )
    zero = np.zeros((), np.int32)
    return TrainState(
        step=zero, skipped=zero, skipped_in_a_row=zero, params=params,
        collections={"batch_stats": online}, opt_state=optimizer(hyper).init(params),
        target_params=target_params, target_collections={"batch_stats": target},
    )  # fmt: skip


def batch_stats(arrays, prefix):
    """Online and target statistics of the golden file, in our layout."""
    buffers = below(arrays, prefix)
    target = {k: v for k, v in buffers.items() if re.match(r"\w+_m\.", k)}
    online = {k: v for k, v in buffers.items() if k not in target}
    return to_tree(online), to_tree(target)


def batch_of(arrays, step, tokens2=None):
    inputs = below(arrays, f"step{step}/inputs/")
    tokens = inputs["tokens"]
    first, second = (inputs[key].transpose(0, 2, 3, 1) for key in ("x1", "x2"))
    return {
        "view1": {"image": first, "text": tokens},
        "view2": {"image": second, "text": tokens if tokens2 is None else tokens2},
    }


def parts(config):
    learner = build(config)
    hyper = make_hyper(config, learner.objectives)
    return learner, make_optimizer(config.optim), hyper


def structural_zero(path):
    """Entries that cannot influence the loss: see the golden files' description."""
    if path.endswith("qkv/bias"):
        return "keys"
    zero = path.endswith("projector/out/bias") or path.endswith("hidden/bias")
    return ... if zero else None


def assert_gradients(ours, reference, tolerance=GRADIENT):
    def zero(path):
        kind = structural_zero(path)
        if kind != "keys":
            return kind
        leaf = reference
        for key in path.split("/"):
            leaf = leaf[key]
        third = leaf.shape[-1] // 3
        return np.s_[..., third : 2 * third]

    assert_tree_close(ours, reference, tolerance, zero)


def test_features_of_step_1(golden):
    arrays, meta = golden
    learner, optimizer, hyper = parts(released_config(meta))
    state = start(arrays, learner, optimizer, hyper(0))
    batch = batch_of(arrays, 1)
    features, _ = learner.apply(
        state.variables, batch["view1"], method="encode", mutable=["batch_stats"]
    )
    targets, _ = learner.apply(
        state.target_variables, batch, method="targets", mutable=["batch_stats"]
    )
    out, act = below(arrays, "step1/out/"), below(arrays, "step1/act/")
    ours = {
        "z_image": features["image"]["embedding"],
        "z_text": features["text"]["embedding"],
        "y_image": targets["view1"]["clipin"]["image"],
        "y_text": targets["view1"]["clipin"]["text"],
    }
    predictions, _ = learner.apply(
        state.variables,
        features,
        method=lambda m, f: m.objectives["clipin"].predictions(f, train=True),
        mutable=["batch_stats"],
    )
    ours |= {
        "p_image": predictions["image_to_text"],
        "p_text": predictions["text_to_image"],
        "r_image": predictions["image_to_image"],
        "r_text": predictions["text_to_text"],
    }
    for name, value in ours.items():
        assert deviation(value, out[name]) < FORWARD, name
    image, text = features["image"], features["text"]
    assert deviation(image["pooled"], act["visual.ln_post"]) < FORWARD
    assert deviation(text["tokens"], act["TextEncoder.ln_final"]) < FORWARD
    assert deviation(image["shared"], act["visual.img_proj_front"]) < FORWARD
    assert deviation(text["shared"], act["text_proj_front"]) < FORWARD


@pytest.mark.parametrize("scan_layers, remat", [(False, False), (True, True)])
def test_gradients_of_step_1(golden, scan_layers, remat):
    arrays, meta = golden
    changes = {"model.scan_layers": scan_layers, "model.remat": remat}
    learner, optimizer, hyper = parts(released_config(meta, **changes))
    state = start(arrays, learner, optimizer, hyper(0))
    wanted = to_tree(below(arrays, "step1/grads/"))
    if scan_layers:
        state = dataclasses.replace(
            state,
            params=stacked(state.params),
            target_params=stacked(state.target_params),
        )
        wanted = stacked(wanted)
    grads = gradient(learner, state, batch_of(arrays, 1), hyper(0))
    assert_gradients(grads, wanted)


def gradient(learner, state, batch, hyper):
    targets, _ = learner.apply(
        state.target_variables, batch, method="targets", mutable=["batch_stats"]
    )

    def loss(params):
        variables = {"params": params, **state.collections}
        (value, _), _ = learner.apply(
            variables, batch, targets, hyper, mutable=["batch_stats"]
        )
        return value

    return jax.jit(jax.grad(loss))(state.params)


def test_four_steps(golden):
    arrays, meta = golden
    learner, optimizer, hyper = parts(released_config(meta))
    state = start(arrays, learner, optimizer, hyper(0))
    step = jax.jit(make_train_step(learner, optimizer))
    for k in range(1, meta["config"]["steps"] + 1):
        used_target = state.target_params
        numbers = hyper(k - 1)
        state, metrics = step(state, batch_of(arrays, k), numbers)
        losses = below(arrays, f"step{k}/losses/")
        assert_losses(metrics, losses)
        assert abs(numbers["optim"]["learning_rate"] - arrays[f"step{k}/lr"]) < 1e-15
        assert_tree_close(
            state.params, to_tree(below(arrays, f"step{k}/params/")), PARAMETER
        )
        assert_tree_close(used_target, to_tree(below(arrays, f"step{k}/ema/")), MEMORY)
        online, target = batch_stats(arrays, f"step{k}/buffers/")
        assert_tree_close(state.collections["batch_stats"], online, MEMORY)
        assert_tree_close(state.target_collections["batch_stats"], target, MEMORY)
        assert_scalars(state, below(arrays, f"step{k}/scalars_after/"))


def assert_losses(metrics, losses):
    ours = {
        "total": metrics["loss"],
        "inter": metrics["clipin/inter_loss"],
        "intra": metrics["clipin/intra_loss"],
        "clip": metrics["contrastive/loss"],
    }
    for name, value in ours.items():
        assert deviation(value, losses[name]) < FORWARD, name


def assert_scalars(state, expected):
    params = state.params
    ours = {
        "logit_scale": params["objectives_contrastive"]["logit_scale"],
        "lambda_combine": params["objectives_contrastive"]["learned_weight"]["value"],
        "lambda_selfalign": params["objectives_clipin"]["learned_intra_weight"][
            "value"
        ],
    }
    for name, value in ours.items():
        assert abs(value - expected[name]) < PARAMETER, name


VARIANTS = {
    "no_sep_aug": {"objectives.clipin.target_view": "same"},
    "onlyclip": {"objectives.clipin.weight": 0.0},
    "second_text": {},
    "clamp_low": {},
    "clamp_high": {},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants(golden, golden_folder, variant):
    arrays, meta = golden
    variants, variant_meta = load(golden_folder, "clipin_variants.npz")
    expected = below(variants, f"{variant}/")
    learner, optimizer, hyper = parts(released_config(meta, **VARIANTS[variant]))
    scalars = below(expected, "init/params/")
    state = start(arrays, learner, optimizer, hyper(0), **scalars)
    step = jax.jit(make_train_step(learner, optimizer))

    def batch(k):
        return batch_of(arrays, k, expected.get(f"step{k}/inputs/tokens_target"))

    grads = gradient(learner, state, batch(1), hyper(0))
    assert_named_gradients(grads, below(expected, "step1/grads/"))
    for k in range(1, meta["config"]["steps"] + 1):
        used_target = state.target_params
        state, metrics = step(state, batch(k), hyper(k - 1))
        assert_losses(metrics, below(expected, f"step{k}/losses/"))
        assert_scalars(state, below(expected, f"step{k}/scalars_after/"))
        norms = dict(
            zip(
                variant_meta["param_norm_names"],
                expected[f"step{k}/param_norms"],
                strict=True,
            )
        )
        assert_norms(state, used_target, norms)


def assert_named_gradients(grads, expected):
    for name, value in expected.items():
        path = our_path(name)
        leaf = grads
        for key in path.split("/"):
            leaf = leaf[key]
        assert deviation(leaf, our_array(name, value)) < GRADIENT, name


def assert_norms(state, target, norms):
    """2-norms of the parameters, online and averaged."""
    for name, norm in norms.items():
        averaged = re.match(r"\w+_m\.", name)
        name = re.sub(r"^(visual|TextEncoder|text_proj_\w+?)_m\b", r"\1", name)
        leaf = target if averaged else state.params
        for key in our_path(name).split("/"):
            leaf = leaf[key]
        assert abs(np.linalg.norm(leaf) - norm) <= PARAMETER * max(norm, 1), name


def test_evaluation_paths(golden):
    arrays, meta = golden
    last = meta["config"]["steps"]
    learner, _, _ = parts(released_config(meta))
    params = to_tree(below(arrays, f"step{last}/params/"))
    ema = to_tree(below(arrays, f"step{last}/ema/"))
    online, target = batch_stats(arrays, f"step{last}/buffers/")
    variables = {"params": params, "batch_stats": online}
    target_variables = {"params": ema, "batch_stats": target}
    images = {"image": arrays["eval/inputs/images"].transpose(0, 2, 3, 1)}
    texts = {"text": arrays["eval/inputs/tokens"]}
    image = learner.apply(variables, images, method="encode")["image"]
    text = learner.apply(variables, texts, method="encode")["text"]
    scale = np.exp(params["objectives_contrastive"]["logit_scale"])
    contrastive = scale * image["embedding"] @ text["embedding"].T
    expected = below(arrays, "eval/")
    assert deviation(contrastive, expected["similarity_contrast/per_image"]) < FORWARD
    y = learner.apply(
        target_variables, {"view1": images}, train=False, method="targets"
    )["view1"]["clipin"]["image"]
    p = learner.apply(variables, texts, method="predictions")["clipin"]["text_to_image"]
    noncontrastive = expected["similarity_noncontrast/per_image"]
    assert deviation(y @ p.T, noncontrastive) < FORWARD
    assert deviation(image["pooled"], expected["encode_image_featExt"]) < FORWARD
    assert deviation(text["pooled"], expected["encode_text_featExt"]) < FORWARD
