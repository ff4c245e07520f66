"""A model of another library is used as a run is."""

import json
import re

import numpy as np
import pytest

import clipin_jax
from clipin_jax.errors import ClipinError
from clipin_jax.inference.foreign import is_foreign
from clipin_jax.inference.open_model import open_source
from clipin_jax.interop.tables.bert import albef_table, blip_table
from clipin_jax.interop.tables.huggingface_clip import clip_table
from clipin_jax.interop.weights import write_safetensors
from clipin_jax.training.evaluate import evaluate
from tests.support.golden_models import write_state_dict
from tests.support.trained_models import TEXTS, trained

TOWER = dict(
    hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
)
CONFIG = dict(
    model_type="clip",
    projection_dim=16,
    vision_config=dict(TOWER, image_size=32, patch_size=8),
    text_config=dict(TOWER, max_position_embeddings=16),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of transformers' `CLIPModel` with random weights, written by hand."""
    folder = tmp_path_factory.mktemp("clip_model")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    rng = np.random.default_rng(0)
    paths = {
        "image": dict(
            class_embedding=(32,), position_embedding=(17, 32),
            **{"patch_embed/kernel": (192, 32)}, **norms("ln_pre", "ln_post"),
        ),
        "text": {
            "position_embedding": (16, 32), "token_embedding/embedding": (49408, 32),
            **norms("ln_final"),
        },
    }  # fmt: skip
    shapes = {"objectives_contrastive/logit_scale": ()}
    for tower, arrays in paths.items():
        prefix = f"towers/{tower}"
        shapes |= {f"{prefix}/{path}": shape for path, shape in arrays.items()}
        blocks = f"{prefix}/transformer/blocks_0"
        shapes |= {f"{blocks}/{path}": shape for path, shape in block().items()}
        shapes[f"{prefix}_projection/kernel"] = (32, 16)
    arrays = {
        path: 0.1 * rng.standard_normal(shape).astype(np.float32)
        for path, shape in shapes.items()
    }
    write_safetensors(folder / "model.safetensors", clip_table().from_flat(arrays), {})
    return folder


def norms(*names):
    leaves = ("scale", "bias")
    return {f"{name}/{leaf}": (32,) for name in names for leaf in leaves}


def block():
    layers = {"attention/qkv": 96, "attention/out": 32, "mlp_in": 64, "mlp_out": 32}
    shapes = norms("ln_1", "ln_2")
    for name, width in layers.items():
        rows = 64 if name == "mlp_out" else 32
        shapes |= {f"{name}/kernel": (rows, width), f"{name}/bias": (width,)}
    return shapes


def test_a_folder_is_loaded(folder, capsys):
    model = clipin_jax.load(folder)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 36, 3), dtype=np.uint8)
    images, texts = model.encode_image(pixels), model.encode_text(["a star", "a dog"])
    assert images.shape == texts.shape == (2, 16)
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, rtol=1e-5)
    cosines = model.similarity(pixels, ["a star", "a dog"])
    np.testing.assert_allclose(cosines, images @ texts.T, atol=1e-6)
    assert "arrays" in capsys.readouterr().err  # says what it has read


# Heads are 64 wide, as in the published models.
HOST = (
    "model.image.width=64", "model.image.num_heads=1", "model.image.depth=1",
    "model.text.width=64", "model.text.num_heads=1", "model.text.depth=1",
)  # fmt: skip
ALBEF = (
    "model.text.fusion_depth=1", "model.text.token_types=2",
    "model.text.context_length=25",
)  # fmt: skip


@pytest.mark.parametrize(
    ("page", "overrides", "table"),
    [
        ("albef:runlocal", ALBEF, albef_table(1, 2)),
        ("blip:runlocal", ("model.text.context_length=30",), blip_table()),
    ],
)
def test_a_checkpoint_of_pretraining_is_loaded(tmp_path, page, overrides, table):
    """Queues of negatives and momentum copies, `_m`, are left out."""
    run = trained(page, *HOST, *overrides)
    ours = {k: v for k, v in run.model.arrays.items() if "/queue/" not in k}
    arrays = table.from_flat(ours)
    copies = {
        f"visual_encoder_m.{name.removeprefix('visual_encoder.')}": value + 1
        for name, value in arrays.items()
        if name.startswith("visual_encoder.")
    }
    copies["text_encoder_m.embeddings.LayerNorm.weight"] = np.ones(64, "f4")
    queues = {
        "image_queue": np.ones((32, 8), "f4"),
        "text_queue": np.ones((32, 8), "f4"),
        "queue_ptr": np.zeros(1, "i8"),
    }
    path = tmp_path / "checkpoint.pth"
    write_state_dict(path, arrays | copies | queues, epoch=29)
    model = clipin_jax.load(path)
    images = model.encode_image(run.images)
    np.testing.assert_allclose(images, run.image_features, atol=1e-6)
    for row in (0, 2):  # the other text has punctuation, which is removed
        text = model.encode_text(TEXTS[row])[0]
        np.testing.assert_allclose(text, run.text_features[row], atol=1e-6)


def test_it_has_no_checkpoints(folder):
    with pytest.raises(ClipinError, match="is no run: it has no step 3"):
        open_source(folder).restore(3)


def test_it_is_scored(folder, tmp_path):
    scenes = "evals.retrieval.source={'name': 'scenes', 'split': 'val', 'length': 32}"
    with pytest.raises(ClipinError, match="name a file with --output"):
        evaluate(folder)
    output = tmp_path / "scores.json"
    scores = evaluate(folder, output=output, overrides=(scenes,))
    assert 0 <= scores["retrieval/text_to_image_R@1"] <= 1
    assert json.loads(output.read_text())["scores"] == scores
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_what_is_foreign(folder, tmp_path):
    assert is_foreign(folder) and is_foreign("hf-hub:owner/name")
    assert is_foreign(folder / "model.safetensors")
    (tmp_path / "config.json").write_text('{"objectives": {}}')
    assert not is_foreign(tmp_path) and not is_foreign(tmp_path / "nothing")


def test_a_wrong_file_is_one_line(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(ClipinError, match=re.escape(str(tmp_path))):
        clipin_jax.load(tmp_path / "model.safetensors")
