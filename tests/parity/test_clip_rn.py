"""CLIP's residual network against open_clip, in float64, in both modes."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from clipin_jax.core.learner import build
from tests.parity.clip_rn_names import resnet_tree
from tests.parity.compare import assert_tree_close, deviation
from tests.parity.torch_names import below, load

FORWARD, GRADIENT, MEMORY = 1e-11, 1e-10, 1e-9
HYPER = {"objectives": {"contrastive": {"weight": 1.0}}}
STAGES = {f"visual.layer{i + 1}": i for i in range(4)}


def config_of(c: dict, **changes) -> ConfigDict:
    """The config of the golden file's model, at its sizes."""
    config = ConfigDict(
        dict(
            model=dict(
                embed_dim=c["embed_dim"], pre_projector=0,
                projection=dict(image="none", text="matrix"), embedding_from="",
                dtype="float64", param_dtype="float64", scan_layers=False, remat=False,
                image_mean=(0.5,) * 3, image_std=(0.5,) * 3,
                image=dict(
                    name="resnet", depths=tuple(c["layers"]), width=c["width"],
                    num_heads=c["attnpool_heads"], output_dim=c["embed_dim"],
                    image_size=(c["image"],) * 2,
                ),
                text=dict(
                    name="text_transformer", width=c["t_width"], depth=c["t_layers"],
                    num_heads=c["t_heads"], context_length=c["context"],
                    vocab_size=c["vocab"], activation="quick_gelu",
                ),
            ),
            objectives=dict(contrastive=dict(weight=1.0)),
            target=dict(decay=0.0, symmetric=False),
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
    arrays, meta = load(golden_folder, "clip_rn_tiny.npz")
    view = {
        "image": arrays["inputs/images"].transpose(0, 2, 3, 1),
        "text": arrays["inputs/tokens"],
    }
    params = resnet_tree(below(arrays, "params/"))
    stats = resnet_tree(below(arrays, "buffers/"))
    return arrays, meta["config"], view, {"params": params, "batch_stats": stats}


def channels_last(x):
    return x.transpose(0, 2, 3, 1)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_features_and_loss(golden, mode):
    arrays, sizes, view, variables = golden
    learner, train = build(config_of(sizes)), mode == "train"
    expected = below(arrays, f"{mode}/")

    def embed(module):
        return module.towers.embed(module.towers.encode(view, train))

    @jax.jit
    def forward(variables):
        return learner.apply(
            variables, method=embed, mutable=["batch_stats", "intermediates"],
            capture_intermediates=lambda module, _: "stage_" in (module.name or ""),
        )  # fmt: skip

    features, captured = forward(variables)
    blocks = captured["intermediates"]["towers"]["image"]
    for name, stage in STAGES.items():
        last = blocks[f"stage_{stage}_block_{sizes['layers'][stage] - 1}"]["__call__"]
        wanted = channels_last(expected[f"act/{name}"])
        assert deviation(last[0], wanted) < FORWARD, name
    image, text = features["image"], features["text"]
    last = channels_last(expected["act/visual.layer4"])
    assert deviation(image["tokens"], last.reshape(*image["tokens"].shape)) < FORWARD
    assert deviation(image["pooled"], expected["encode_image"]) < FORWARD
    assert deviation(image["embedding"], expected["image_features"]) < FORWARD
    assert deviation(text["embedding"], expected["text_features"]) < FORWARD
    scale = np.exp(arrays["params/logit_scale"])
    logits = scale * image["embedding"] @ text["embedding"].T
    assert deviation(logits, expected["logits_per_image"]) < FORWARD

    @jax.jit
    def step(variables):
        return learner.apply(
            variables, {"view1": view}, {"view1": {}}, HYPER, train,
            mutable=["batch_stats"],
        )  # fmt: skip

    (loss, _), moved = step(variables)
    assert deviation(loss, expected["loss"]) < FORWARD
    after = "train/buffers_after/" if train else "buffers/"
    wanted = resnet_tree(below(arrays, after))
    assert_tree_close(moved["batch_stats"], wanted, MEMORY)


def key_bias(path):
    """Entries that attention cannot see: see the golden files' description."""
    if path.endswith("key_in/bias"):
        return ...
    return np.s_[32:64] if path.endswith("qkv/bias") else None


@pytest.mark.parametrize("remat", [False, True])
def test_gradients(golden, remat):
    arrays, sizes, view, variables = golden
    assert sizes["t_width"] == 32  # of `key_bias`
    learner = build(config_of(sizes, **{"model.remat": remat}))

    def loss(params):
        online = {**variables, "params": params}
        (value, _), moved = learner.apply(
            online, {"view1": view}, {"view1": {}}, HYPER, mutable=["batch_stats"]
        )
        return value, moved["batch_stats"]

    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (value, stats), grads = gradient(variables["params"])
    assert deviation(value, arrays["train/loss"]) < FORWARD
    wanted = resnet_tree(below(arrays, "train/grads/"))
    assert_tree_close(grads, wanted, GRADIENT, zero=key_bias)
    wanted = resnet_tree(below(arrays, "train/buffers_after/"))
    assert_tree_close(stats, wanted, MEMORY)
