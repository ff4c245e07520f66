"""Reading a large model holds one copy of its weights."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from clipin_jax.config import load_config
from clipin_jax.core.parameter_paths import flatten
from clipin_jax.interop.tables.huggingface_clip import clip_table
from clipin_jax.interop.weights import write_safetensors
from clipin_jax.runs.build import build_experiment

SPEC, OVERRIDES = "clip:variant=L/14", ("batch_size=8",)
READ = """
import resource, sys
from clipin_jax.config import load_config
from clipin_jax.interop.initial_weights import read_weights
from clipin_jax.interop.open_model import open_model
from clipin_jax.runs.build import build_experiment

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

config = load_config(sys.argv[2], sys.argv[3:], without_data=True)
state = build_experiment(config).abstract_state
model = open_model(sys.argv[1])
before = peak()
loaded = read_weights(state, model, config)
size = sum(array.nbytes for array in loaded.values())
print(size, (peak() - before) / size)
"""


def describe(model) -> dict:
    """Returns the part of config.json that its defaults do not give."""
    image, text = model.image, model.text
    towers = {
        name: dict(
            hidden_size=tower.width,
            intermediate_size=4 * tower.width,
            num_hidden_layers=tower.depth,
            num_attention_heads=tower.num_heads,
        )
        for name, tower in (("vision_config", image), ("text_config", text))
    }
    towers["vision_config"]["patch_size"] = image.patch_size[0]
    return dict(model_type="clip", projection_dim=model.embed_dim, **towers)


@pytest.mark.slow
def test_the_peak_is_little_more_than_the_weights(tmp_path):
    config = load_config(SPEC, OVERRIDES, without_data=True)
    shapes = flatten(build_experiment(config).abstract_state.params)
    zero = {path: np.zeros(leaf.shape, np.float32) for path, leaf in shapes.items()}
    names = clip_table().from_flat(zero)
    del zero
    rng = np.random.default_rng(0)
    arrays = (
        (name, rng.standard_normal(like.shape, np.float32))
        for name, like in names.items()
    )
    write_safetensors(tmp_path / "model.safetensors", arrays, {})
    (tmp_path / "config.json").write_text(json.dumps(describe(config.model)))
    command = [sys.executable, "-c", READ, str(tmp_path), SPEC, *OVERRIDES]
    # One device: each keeps a copy.
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    size, ratio = map(float, ended.stdout.split())
    assert size > 1.6e9
    assert ratio <= 1.3
