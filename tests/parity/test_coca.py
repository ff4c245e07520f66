"""CoCa's towers, logits, losses and gradients against open_clip, in float64."""

import jax
import pytest

from clipin_jax.core.learner import build
from tests.parity.compare import (
    assert_close,
    deviation,
    in_file_layout,
    key_biases,
    stacked,
)
from tests.parity.configs import model_of, plain_config, vit
from tests.parity.golden_files import below, load
from tests.parity.names.coca import to_tree
from tests.parity.programs import FORWARD, GRADIENT, channels_last

MASKS = {"legacy_mask": "shifted", "correct_mask": "aligned"}


def config_of(c, padding_mask, scan_layers=False):
    """The config of a file's model, at its sizes."""
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
    model = model_of(
        image, text, embed_dim=c["embed_dim"], scan_layers=scan_layers,
        remat=scan_layers, projection=dict(image="matrix", text="matrix"),
    )  # fmt: skip
    return plain_config(model, **weights_of(c))


def weights_of(c):
    return dict(contrastive=c["clip_weight"], captioning=c["caption_weight"])


@pytest.fixture(scope="module")
def file(golden_folder):
    return load(golden_folder, "coca_tiny.npz")


def view_of(file):
    image = channels_last(file["inputs/images"])
    return {"image": image, "text": file["inputs/tokens"]}


def program_of(file, case, scan_layers):
    """One pass: from parameters to the loss with all else, and its gradient."""
    learner = build(config_of(file.sizes, MASKS[case], scan_layers))
    weights = weights_of(file.sizes).items()
    hyper = {"objectives": {name: {"weight": weight} for name, weight in weights}}
    view = view_of(file)

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
def test_a_pass(file, case, scan_layers):
    expected = file.section(f"{case}/")

    def tree_of(arrays):
        return stacked(to_tree(arrays)) if scan_layers else to_tree(arrays)

    program = program_of(file, case, scan_layers)
    results, grads = program(tree_of(file.below("params/")))
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
        assert deviation(ours, expected[name]) < FORWARD, name
    wanted = below(expected, "grads/")
    ours = in_file_layout(grads, wanted, tree_of)
    assert_close(ours, wanted, GRADIENT, key_biases)
