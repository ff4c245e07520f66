"""CoCa's towers, logits, losses and gradients against open_clip, in float64."""

import jax
import pytest

from clipin_jax.core.learner import build
from tests.parity.compare import (
    FORWARD_TOLERANCE,
    GRADIENT_TOLERANCE,
    assert_close,
    deviation,
    key_biases,
    stacked,
    to_file_layout,
)
from tests.parity.configs import config_without_target, model_section, vit
from tests.parity.forward import channels_last
from tests.parity.golden_files import load, select_prefix
from tests.parity.names import COCA

MASKS = {"legacy_mask": "shifted", "correct_mask": "aligned"}


def make_config(c, padding_mask, scan_layers=False):
    """Returns our config of the model that a file describes."""
    image = vit(c) | dict(
        name="pooled_vit", activation="gelu", pool="single",
        num_queries=c["pooler_queries"], pool_width=c["embed_dim"],
        pool_heads=c["pooler_heads"],
    )  # fmt: skip
    text = dict(
        name="split_decoder", width=c["t_width"], depth=c["t_layers"],
        num_heads=c["t_heads"], decoder_depth=c["m_layers"],
        context_length=c["context"], vocab_size=c["vocab"], padding_mask=padding_mask,
    )  # fmt: skip
    model = model_section(
        image, text, embed_dim=c["embed_dim"], scan_layers=scan_layers,
        remat=dict.fromkeys(("image", "text"), "full" if scan_layers else "none"),
        projection=dict(image="matrix", text="matrix"),
    )  # fmt: skip
    return config_without_target(model, **loss_weights(c))


def loss_weights(c):
    return dict(contrastive=c["clip_weight"], captioning=c["caption_weight"])


@pytest.fixture(scope="module")
def file(golden_folder):
    return load(golden_folder, "coca_tiny.npz")


def read_view(file):
    image = channels_last(file["inputs/images"])
    return {"image": image, "text": file["inputs/tokens"]}


def compile_pass(file, case, scan_layers):
    """Compiles a pass: parameters to the loss, all outputs, and the gradient."""
    learner = build(make_config(file.sizes, MASKS[case], scan_layers))
    weights = loss_weights(file.sizes).items()
    hyper = {"objectives": {name: {"weight": weight} for name, weight in weights}}
    view = read_view(file)

    def forward(m):
        features = m.encode(view)
        tokens = (features[modality]["tokens"] for modality in ("text", "image"))
        return features, m.towers.text.decode(view["text"], *tokens, False)

    def loss(params):
        variables = {"params": params}
        features, logits = learner.apply(variables, method=forward)
        value, metrics = learner.apply(variables, {"view1": view}, {"view1": {}}, hyper)
        return value, (features, logits, metrics)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@pytest.mark.parametrize(
    ("case", "scan_layers"),
    [("legacy_mask", False), ("correct_mask", False), ("correct_mask", True)],
)
def test_one_pass(file, case, scan_layers):
    expected = file.section_or_skip(f"{case}/")

    def file_to_tree(arrays):
        tree = COCA.to_tree(arrays)
        return stacked(tree) if scan_layers else tree

    program = compile_pass(file, case, scan_layers)
    results, grads = program(file_to_tree(file.section("params/")))
    loss, (features, logits, metrics) = results
    caption = file.sizes["caption_weight"] * metrics["captioning/loss"]
    contrastive = file.sizes["clip_weight"] * metrics["contrastive/loss"]
    for name, ours in {
        "image_embs": features["image"]["tokens"],
        "token_embs": features["text"]["tokens"],
        "act/text.ln_final": features["text"]["pooled"],
        "out/image_features": features["image"]["embedding"],
        "out/text_features": features["text"]["embedding"],
        "out/logits": logits[:, :-1],
        "losses/total": loss,
        "losses/contrastive": contrastive,
        "losses/caption_weighted": caption,
    }.items():
        assert deviation(ours, expected[name]) < FORWARD_TOLERANCE, name
    wanted = select_prefix(expected, "grads/")
    ours = to_file_layout(grads, wanted, file_to_tree)
    assert_close(ours, wanted, GRADIENT_TOLERANCE, key_biases)
