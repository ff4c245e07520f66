"""Name tables and configs also fit models that are deeper than those of the files."""

import re
from typing import NamedTuple

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from clipin_jax.core.learner import build
from clipin_jax.interop.tables import bert
from tests.parity import names, test_clip, test_clip_rn, test_coca, test_siglip
from tests.parity.clipin_run import ClipinRun
from tests.parity.golden_files import GoldenFile, load
from tests.parity.host_runs import albef_run, blip_run


class DeeperModel(NamedTuple):
    """Describes a file's model with other depths.

    Attributes:
      name: of the file.
      prefix: of its parameters.
      sizes: changes of its config.
      layers: prefix of layers, with {} for the number -> how many layers to have.
    """

    name: str
    prefix: str
    sizes: dict
    layers: dict


CLIPIN = DeeperModel(
    "clipin_tiny.npz", "init/params/", dict(v_layers=3, t_layers=1),
    {"visual.transformer.resblocks.{}.": 3, "TextEncoder.transformer.resblocks.{}.": 1},
)  # fmt: skip
ALBEF = DeeperModel(
    "albef_tiny.npz", "init/params/", dict(v_layers=3, t_layers=5),
    {"visual_encoder.blocks.{}.": 3, "text_encoder.bert.encoder.layer.{}.": 5},
)  # fmt: skip
BLIP = DeeperModel(
    "blip_tiny.npz", "init/params/", dict(v_layers=1, t_layers=3),
    {
        "visual_encoder.blocks.{}.": 1,
        "text_encoder.encoder.layer.{}.": 3,
        "text_decoder.bert.encoder.layer.{}.": 3,
    },
)  # fmt: skip
CLIP = DeeperModel(
    "clip_vit_tiny.npz", "params/", dict(v_layers=3, t_layers=11),
    {"visual.transformer.resblocks.{}.": 3, "transformer.resblocks.{}.": 11},
)  # fmt: skip
CLIP_RN = DeeperModel(
    "clip_rn_tiny.npz", "params/", dict(layers=[1, 3, 1, 1], t_layers=2),
    {"visual.layer2.{}.": 3, "transformer.resblocks.{}.": 2},
)  # fmt: skip
COCA = DeeperModel(
    "coca_tiny.npz", "params/", dict(v_layers=1, t_layers=3, m_layers=4),
    {
        "visual.transformer.resblocks.{}.": 1,
        "text.transformer.resblocks.{}.": 3,
        "text_decoder.resblocks.{}.": 4,
        "text_decoder.cross_attn.{}.": 4,
    },
)  # fmt: skip
SIGLIP = DeeperModel(
    "siglip_hf_tiny.npz", "params/", dict(v_layers=3, t_layers=1),
    {"vision_model.encoder.layers.{}.": 3, "text_model.encoder.layers.{}.": 1},
)  # fmt: skip


def with_layers(arrays, prefix, depth):
    """Returns arrays of `depth` layers: the given ones, then copies of the last."""
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


def load_deeper(folder, model):
    """Returns a file with the sizes of the deeper model, and its parameters."""
    file = load(folder, model.name)
    params = file.section(model.prefix)
    for prefix, depth in model.layers.items():
        params = with_layers(params, prefix, depth)
    others = {k: v for k, v in file.arrays.items() if not k.startswith(model.prefix)}
    arrays = others | {model.prefix + name: value for name, value in params.items()}
    meta = file.meta | {"config": file.sizes | model.sizes}
    return GoldenFile(file.name, arrays, meta), params


def tree_shapes(tree):
    return jax.tree.map(np.shape, tree, is_leaf=lambda x: hasattr(x, "shape"))


def assert_same_tree(to_tree, params, *, learner, batch, hyper):
    """Asserts that the table gives the tree of parameters that our model has."""

    def init():
        key = jax.random.key(0)
        return learner.init(key, batch, hyper, method="initialize")["params"]

    assert tree_shapes(to_tree(params)) == tree_shapes(jax.eval_shape(init))


@pytest.mark.parametrize(
    ("model", "make_run"), [(ALBEF, albef_run), (BLIP, blip_run), (CLIPIN, ClipinRun)]
)
def test_trained_models(golden_folder, model, make_run):
    file, params = load_deeper(golden_folder, model)
    run = make_run(file)
    assert_same_tree(
        getattr(run, "to_tree", names.CLIPIN.to_tree),
        params,
        learner=run.learner,
        batch=run.batch(1),
        hyper=run.hyper(1),
    )


@pytest.mark.parametrize(
    ("model", "make_config", "to_tree"),
    [
        (CLIP, lambda c: test_clip.make_config(c, "gelu"), names.CLIP.to_tree),
        (CLIP_RN, test_clip_rn.make_config, names.CLIP_RESNET.to_tree),
        (COCA, lambda c: test_coca.make_config(c, "aligned"), names.COCA.to_tree),
        (SIGLIP, test_siglip.make_config, names.SIGLIP.to_tree),
    ],
)
def test_models_without_training(golden_folder, model, make_config, to_tree):
    file, params = load_deeper(golden_folder, model)
    config = make_config(file.sizes)
    assert_same_tree(
        to_tree,
        params,
        learner=build(config),
        batch={"view1": test_coca.read_view(file)},
        hyper=make_hyper(config),
    )


def make_hyper(config: ConfigDict):
    objectives = config.objectives.items()
    return {"objectives": {k: {"weight": spec.weight} for k, spec in objectives}}


@pytest.mark.parametrize("split", [1, 3, 6])
def test_split_tower_numbers_layers_within_each_part(split):
    table = bert.albef_table(split, 12)
    name = "text_encoder.bert.encoder.layer.{}.output.dense.weight"
    paths = [names.paths_of(table, name.format(layer)) for layer in range(12)]
    parts = [("text_layers", split), ("fusion_layers", 12 - split)]
    assert paths == [
        (f"towers/text/{part}/blocks_{layer}/mlp_out/kernel",)
        for part, count in parts
        for layer in range(count)
    ]
