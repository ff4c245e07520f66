"""CLIP's residual network against open_clip, in float64, in both modes."""

import jax
import numpy as np
import pytest

from clipin_jax.core.learner import build
from tests.parity.compare import (
    FORWARD_TOLERANCE,
    GRADIENT_TOLERANCE,
    STATE_TOLERANCE,
    assert_close,
    deviation,
    key_biases,
    to_file_layout,
)
from tests.parity.configs import config_without_target, model_section, text_transformer
from tests.parity.forward import channels_first, channels_last
from tests.parity.golden_files import load
from tests.parity.names import CLIP_RESNET

HYPER = {"objectives": {"contrastive": {"weight": 1.0}}}


def make_config(c, **changes):
    """Returns our config of the model that a file describes."""
    image = dict(
        name="resnet", depths=tuple(c["layers"]), width=c["width"],
        num_heads=c["attnpool_heads"], output_dim=c["embed_dim"],
        image_size=(c["image"],) * 2,
    )  # fmt: skip
    text = text_transformer(c, activation="quick_gelu")
    projection = dict(image="none", text="matrix")
    model = model_section(
        image, text, embed_dim=c["embed_dim"], projection=projection, **changes
    )
    return config_without_target(model, contrastive=1.0)


@pytest.fixture(scope="module")
def file(golden_folder):
    return load(golden_folder, "clip_rn_tiny.npz")


def compile_pass(file, train, remat="none"):
    """Compiles a pass: variables to the loss, all outputs, and the gradient."""
    learner = build(make_config(file.sizes, remat=dict(image=remat, text=remat)))
    view = {
        "image": channels_last(file["inputs/images"]),
        "text": file["inputs/tokens"],
    }

    def features(m):
        return m.towers.embed(m.towers.encode(view, train))

    def loss(params, stats):
        variables = {"params": params, "batch_stats": stats}
        embedded, captured = learner.apply(
            variables, method=features, mutable=["batch_stats", "intermediates"],
            capture_intermediates=lambda module, _: "stage_" in (module.name or ""),
        )  # fmt: skip
        (value, _), moved = learner.apply(
            variables, {"view1": view}, {"view1": {}}, HYPER, train,
            mutable=["batch_stats"],
        )  # fmt: skip
        blocks = captured["intermediates"]["towers"]["image"]
        return value, (embedded, blocks, moved["batch_stats"])

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@pytest.mark.parametrize(
    ("train", "remat"), [(False, "none"), (True, "none"), (True, "full")]
)
def test_one_pass(file, train, remat):
    variables = (
        CLIP_RESNET.to_tree(file.section(f"{kind}/")) for kind in ("params", "buffers")
    )
    results, grads = compile_pass(file, train, remat)(*variables)
    loss, (features, blocks, stats) = results
    expected = file.section_or_skip("train/" if train else "eval/")
    assert deviation(loss, expected["loss"]) < FORWARD_TOLERANCE
    check_features(file, features, expected)
    after = file.section("train/buffers_after/" if train else "buffers/")
    ours = to_file_layout(stats, after, CLIP_RESNET.to_tree)
    assert_close(ours, {name: after[name] for name in ours}, STATE_TOLERANCE)
    if remat == "none":  # remat hides the outputs of blocks
        check_stages(file, blocks, expected)
    if train:
        wanted = file.section("train/grads/")
        ours = to_file_layout(grads, wanted, CLIP_RESNET.to_tree)
        assert_close(ours, wanted, GRADIENT_TOLERANCE, key_biases)


def check_features(file, features, expected):
    image, text = features["image"], features["text"]
    scale = np.exp(file["params/logit_scale"])
    last = expected[f"act/visual.layer{len(file.sizes['layers'])}"]
    batch, channels, *grid = last.shape
    tokens = np.reshape(image["tokens"], (batch, *grid, channels))
    for name, ours in {
        f"act/visual.layer{len(file.sizes['layers'])}": channels_first(tokens),
        "encode_image": image["pooled"],
        "image_features": image["embedding"],
        "text_features": text["embedding"],
        "logits_per_image": scale * image["embedding"] @ text["embedding"].T,
    }.items():
        assert deviation(ours, expected[name]) < FORWARD_TOLERANCE, name


def check_stages(file, blocks, expected):
    """Compares the output of the last block of each stage."""
    for stage, depth in enumerate(file.sizes["layers"]):
        [ours] = blocks[f"stage_{stage}_block_{depth - 1}"]["__call__"]
        name = f"act/visual.layer{stage + 1}"
        assert deviation(channels_first(ours), expected[name]) < FORWARD_TOLERANCE, name
