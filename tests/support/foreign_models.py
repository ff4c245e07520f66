"""Starts models of ours from folders of other libraries, in tests."""

import jax
import numpy as np
import pytest

from clipin_jax.config import load_config
from clipin_jax.runs.build import build_experiment
from clipin_jax.training.initial_state import initial_state

# Sizes of a twin in transformers, and the same in ours.
TOWER = dict(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
)
IMAGE = (
    "model.image.width=32", "model.image.depth=2", "model.image.num_heads=2",
    "model.image.mlp_ratio=2", "model.image.image_size=(32,32)",
    "model.image.patch_size=(8,8)",
)  # fmt: skip
TEXT = (
    "model.text.width=32", "model.text.depth=2", "model.text.num_heads=2",
    "model.text.mlp_ratio=2", "model.text.context_length=16",
    "model.text.vocab_size=60", "data.context_length=16",
)  # fmt: skip


def start(config, folder, *overrides):
    """Returns experiment, state and lines of a run that starts from a folder."""
    overrides = ("batch_size=8", f"init_from={folder}", *overrides)
    experiment = build_experiment(load_config(config, overrides))
    lines: list[str] = []
    with jax.set_mesh(experiment.mesh):
        return experiment, initial_state(experiment, lines.append), lines


def encode(experiment, state, images, text):
    """Returns our features of uint8 images and ids, by modality."""
    view = {"image": images, "text": text}
    features = experiment.learner.apply(state.variables, view, method="encode")
    return {m: jax.tree.map(np.asarray, dict(features[m])) for m in view}


def pixels(images, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)):
    """Returns uint8 images [B, H, W, 3] as others take them: [B, 3, H, W] float32."""
    normalised = (images / 255 - np.array(mean)) / np.array(std)
    return normalised.transpose(0, 3, 1, 2).astype(np.float32)


def random_images(count=3, side=32):
    """Returns uint8 images [B, side, side, 3]."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def random_text(ends, start, end, pad, length=16):
    """Returns ids [B, length] int32: a start mark, words of 5 to 54, an end, padding.

    ends: position of the end mark of each row.
    """
    rng = np.random.default_rng(1)
    text = rng.integers(5, 55, (len(ends), length)).astype(np.int32)
    text[:, 0] = start
    for row, place in enumerate(ends):
        text[row, place], text[row, place + 1 :] = end, pad
    return text


def randomize(model, seed=0):
    """Gives all parameters of a torch model random values, biases and norms too."""
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.1 * noise)
    return model.eval()
