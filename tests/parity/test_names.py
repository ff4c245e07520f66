"""Name tables and configs take models of other depths than those of the files."""

import re
from typing import NamedTuple

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from clipin_jax.core.learner import build
from tests.parity import test_clip, test_clip_rn, test_coca, test_siglip
from tests.parity.clipin_run import ClipinRun
from tests.parity.golden_files import GoldenFile, load
from tests.parity.host_runs import albef_run, blip_run
from tests.parity.names import bert, clip_rn, clipin, coca, siglip


class Deeper(NamedTuple):
    """A file's model with other depths.

    Attributes:
      prefix: of its parameters.
      sizes: to change in its config.
      layers: prefixes of layers, with {} for their number, to how many there are.
    """

    name: str
    prefix: str
    sizes: dict
    layers: dict


CLIPIN = Deeper(
    "clipin_tiny.npz", "init/params/", dict(v_layers=3, t_layers=1),
    {"visual.transformer.resblocks.{}.": 3, "TextEncoder.transformer.resblocks.{}.": 1},
)  # fmt: skip
ALBEF = Deeper(
    "albef_tiny.npz", "init/params/", dict(v_layers=3, t_layers=5),
    {"visual_encoder.blocks.{}.": 3, "text_encoder.bert.encoder.layer.{}.": 5},
)  # fmt: skip
BLIP = Deeper(
    "blip_tiny.npz", "init/params/", dict(v_layers=1, t_layers=3),
    {
        "visual_encoder.blocks.{}.": 1,
        "text_encoder.encoder.layer.{}.": 3,
        "text_decoder.bert.encoder.layer.{}.": 3,
    },
)  # fmt: skip
CLIP = Deeper(
    "clip_vit_tiny.npz", "params/", dict(v_layers=3, t_layers=11),
    {"visual.transformer.resblocks.{}.": 3, "transformer.resblocks.{}.": 11},
)  # fmt: skip
CLIP_RN = Deeper(
    "clip_rn_tiny.npz", "params/", dict(layers=[1, 3, 1, 1], t_layers=2),
    {"visual.layer2.{}.": 3, "transformer.resblocks.{}.": 2},
)  # fmt: skip
COCA = Deeper(
    "coca_tiny.npz", "params/", dict(v_layers=1, t_layers=3, m_layers=4),
    {
        "visual.transformer.resblocks.{}.": 1,
        "text.transformer.resblocks.{}.": 3,
        "text_decoder.resblocks.{}.": 4,
        "text_decoder.cross_attn.{}.": 4,
    },
)  # fmt: skip
SIGLIP = Deeper(
    "siglip_hf_tiny.npz", "params/", dict(v_layers=3, t_layers=1),
    {"vision_model.encoder.layers.{}.": 3, "text_model.encoder.layers.{}.": 1},
)  # fmt: skip


def with_layers(arrays, prefix, depth):
    """The arrays with `depth` layers: the first ones, then copies of the last one."""
    pattern = re.compile(re.escape(prefix).replace(r"\{\}", r"(\d+)"))
    layers, rest = {}, {}
    for name, value in arrays.items():
        match = pattern.match(name)
        if match:
            layers.setdefault(int(match[1]), {})[name[match.end() :]] = value
        else:
            rest[name] = value
    assert layers, prefix
    for layer in range(depth):
        for name, value in layers[min(layer, max(layers))].items():
            rest[prefix.format(layer) + name] = value
    return rest


def deeper(folder, model):
    """The file, with parameters and sizes of the deeper model."""
    file = load(folder, model.name)
    params = file.below(model.prefix)
    for prefix, depth in model.layers.items():
        params = with_layers(params, prefix, depth)
    others = {k: v for k, v in file.arrays.items() if not k.startswith(model.prefix)}
    arrays = others | {model.prefix + name: value for name, value in params.items()}
    meta = file.meta | {"config": file.sizes | model.sizes}
    return GoldenFile(file.name, arrays, meta), params


def shapes_of(tree):
    return jax.tree.map(np.shape, tree, is_leaf=lambda x: hasattr(x, "shape"))


def check(params, to_tree, learner, batch, hyper):
    """The table gives a tree of the parameters that our model has."""

    def init():
        key = jax.random.key(0)
        return learner.init(key, batch, hyper, method="initialize")["params"]

    assert shapes_of(to_tree(params)) == shapes_of(jax.eval_shape(init))


@pytest.mark.parametrize(
    ("model", "run_of"), [(ALBEF, albef_run), (BLIP, blip_run), (CLIPIN, ClipinRun)]
)
def test_models_that_are_trained(golden_folder, model, run_of):
    file, params = deeper(golden_folder, model)
    run = run_of(file)
    to_tree = getattr(run, "to_tree", clipin.to_tree)
    check(params, to_tree, run.learner, run.batch(1), run.hyper(1))


@pytest.mark.parametrize(
    ("model", "config_of", "to_tree"),
    [
        (CLIP, lambda c: test_clip.config_of(c, "gelu"), test_clip.tree_of),
        (CLIP_RN, test_clip_rn.config_of, clip_rn.to_tree),
        (COCA, lambda c: test_coca.config_of(c, "aligned"), coca.to_tree),
        (SIGLIP, test_siglip.config_of, siglip.to_tree),
    ],
)
def test_models_of_one_pass(golden_folder, model, config_of, to_tree):
    file, params = deeper(golden_folder, model)
    config = config_of(file.sizes)
    learner = build(config)
    view = test_coca.view_of(file)
    check(params, to_tree, learner, {"view1": view}, hyper_of(config))


def hyper_of(config: ConfigDict):
    objectives = config.objectives.items()
    return {"objectives": {k: {"weight": spec.weight} for k, spec in objectives}}


@pytest.mark.parametrize("split", [1, 3, 6])
def test_layers_of_a_split_tower_count_from_its_parts(split):
    name = "text_encoder.bert.encoder.layer.{}.output.dense.weight"
    paths = [bert.our_path(name.format(layer), split) for layer in range(12)]
    parts = [("text_layers", split), ("fusion_layers", 12 - split)]
    assert paths == [
        f"towers/text/{part}/blocks_{layer}/mlp_out/kernel"
        for part, count in parts
        for layer in range(count)
    ]
