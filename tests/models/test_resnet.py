"""CLIP's residual network: batch norm on grids, initialisation, sizes, the target."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.config import load_config, resnet_sizes
from clipin_jax.core.learner import build
from clipin_jax.core.parameter_paths import path_name
from clipin_jax.core.sharding import make_mesh
from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import BatchNorm
from clipin_jax.models.resnet import Bottleneck, ResNet
from clipin_jax.objectives.clipin import Clipin
from clipin_jax.runs.build import build_experiment
from tests.support.small_learner import (
    by_path,
    forward,
    make_batch,
    make_hyper,
    make_learner,
    start_state,
)

TINY = dict(
    depths=(1, 2), width=8, num_heads=4, output_dim=12, image_size=(16, 16)
)  # a grid of 2 x 2
SMALLEST = dict(
    depths=(1, 1), width=4, num_heads=2, output_dim=6, image_size=(8, 8)
)  # of a learner
DTYPES = dict(dtype=jnp.float32, param_dtype=jnp.float32)
# Published with the weights: all parameters of image and text tower.
PARAMETERS = {
    "RN50": 102_007_137,
    "RN101": 119_688_033,
    "RN50x4": 178_300_601,
    "RN50x16": 290_979_217,
    "RN50x64": 623_258_305,
}


def images(size=16, batch=3):
    return jax.random.normal(jax.random.key(0), (batch, size, size, 3))


def init(tower, x):
    """Variables; compiled as one, since operation by operation takes longer."""
    return jax.jit(tower.init)(jax.random.key(0), x)


def test_batch_norm_of_grids_covers_all_positions():
    x = np.asarray(jax.random.normal(jax.random.key(0), (3, 4, 2, 5))) * 3 + 2
    rows = x.reshape(-1, 5)
    norm = BatchNorm(affine=True)
    variables = norm.init(jax.random.key(1), x, train=True)
    y, stats = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    flat, of_rows = norm.apply(variables, rows, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(y.reshape(-1, 5), flat, atol=1e-6)
    expected = 0.9 + 0.1 * rows.var(0, ddof=1)  # unbiased: 24 positions
    np.testing.assert_allclose(stats["batch_stats"]["var"], expected, rtol=1e-5)
    np.testing.assert_allclose(of_rows["batch_stats"]["var"], expected, rtol=1e-5)
    mean = 0.1 * rows.mean(0)
    np.testing.assert_allclose(stats["batch_stats"]["mean"], mean, rtol=1e-5)


def test_shapes_and_dtypes():
    tower = ResNet(**TINY, dtype=jnp.bfloat16)
    variables = init(tower, images())
    out = jax.jit(tower.apply)(variables, images())
    assert out["tokens"].shape == (3, 4, 64) and out["pooled"].shape == (3, 12)
    assert out["tokens"].dtype == out["pooled"].dtype == jnp.bfloat16
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(variables))
    full = jax.jit(ResNet(**TINY).apply)(variables, images())["pooled"]
    np.testing.assert_allclose(out["pooled"].astype(jnp.float32), full, atol=0.06)


def test_initialisation_is_the_published_one():
    tower = ResNet((1, 1), 32, 4, 24, (16, 16))
    params = init(tower, images())["params"]
    scales = {
        path_name(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if path_name(path).endswith("norm/scale")
    }
    for path, scale in scales.items():
        assert np.all(scale == (0 if "expand" in path else 1)), path
    for name in ("query_in", "key_in", "value_in", "out"):
        kernel = params["pool"][name]["kernel"]
        np.testing.assert_allclose(np.std(kernel), 256**-0.5, rtol=0.05)
    table = params["pool"]["position_embedding"]
    np.testing.assert_allclose(np.std(table), 256**-0.5, rtol=0.1)
    kernel = params["stage_1_block_0"]["spatial"]["conv"]["kernel"]
    bound = (64 * 9) ** -0.5  # uniform in +- 1/sqrt(fan-in)
    np.testing.assert_allclose(np.std(kernel), bound / 3**0.5, rtol=0.05)
    assert np.abs(kernel).max() <= bound


def test_an_initial_block_is_the_identity():
    x = jax.nn.relu(jax.random.normal(jax.random.key(0), (2, 4, 4, 32)))
    block = Bottleneck(8, 1, **DTYPES)
    variables = block.init(jax.random.key(1), x, True)
    assert not any("shortcut" in name for name in variables["params"])
    y, _ = block.apply(variables, x, True, mutable=["batch_stats"])
    np.testing.assert_array_equal(y, x)


def test_image_of_another_size_gets_a_resized_table():
    tower = ResNet(**TINY)
    variables = init(tower, images())
    assert jax.jit(tower.apply)(variables, images(24))["tokens"].shape == (3, 9, 64)
    with pytest.raises(ClipinError, match="20x20 pixels does not fit .* multiple of 8"):
        jax.eval_shape(tower.apply, variables, images(20))


def test_heads_that_do_not_divide_the_width():
    tower = ResNet(**(TINY | dict(num_heads=3)))
    with pytest.raises(ClipinError, match="num_heads = 3 does not divide the width 64"):
        init(tower, images())


def test_unknown_variant():
    with pytest.raises(ClipinError, match="did you mean 'RN50'"):
        resnet_sizes("RN5")


@pytest.mark.parametrize("variant", PARAMETERS)
def test_published_sizes(variant):
    config = load_config(f"clip:tower={variant},runlocal")
    full = load_config(f"clip:tower={variant}", ["data.source.folder=x",
                       "evals.retrieval.source.folder=x"]).model  # fmt: skip
    with config.unlocked():
        config.model = full
    learner = build(config)
    view = {
        "image": jnp.zeros((1, *full.image.image_size, 3)),
        "text": jnp.zeros((1, 77), jnp.int32),
    }
    hyper = {"objectives": {"contrastive": {"weight": 1.0}}}

    def init():
        return learner.init(
            jax.random.key(0), {"view1": view}, hyper, method="initialize"
        )

    params = jax.eval_shape(init)["params"]
    count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(params))
    assert count == PARAMETERS[variant]


def test_target_has_batch_statistics_of_its_own():
    heads = dict(projection_dim=6, predictor_hidden_dim=5)
    learner = make_learner(image=ResNet(**SMALLEST), clipin=Clipin(**heads))
    batch, hyper = make_batch(), make_hyper(learner)
    state = jax.jit(start_state, static_argnums=0)(learner, batch, hyper)
    run = jax.jit(forward, static_argnums=0)
    _, (_, after) = run(learner, state.params, state, batch, hyper)
    online, target, start = (
        by_path(collections["batch_stats"]["towers"]["image"])
        for collections in (*after, state.collections)
    )
    assert set(online) == set(target) == set(start)
    for path, x in online.items():
        assert np.any(x != target[path]) and np.any(x != start[path]), path
        assert np.any(target[path] != start[path]), path


def test_target_averages_the_tower_up_to_its_pool():
    config = load_config("clip:clipin,tower=RN50,runlocal", ["batch_size=16"])
    state = build_experiment(config, jax.devices()[:1]).abstract_state
    assert "out" in state.target_params["towers"]["image"]["pool"]
    # CLIPin starts from the output of the pool: its projection stays in the tower.
    assert state.params["towers"]["image_pre_projector"]["kernel"].shape == (32, 64)


def test_statistics_are_those_of_all_devices():
    tower, x = ResNet(**TINY), images(batch=8)
    variables = init(tower, x)

    @jax.jit
    def run(variables, x):
        return tower.apply(variables, x, True, mutable=["batch_stats"])

    expected = run(variables, x)
    mesh = make_mesh(data=-1, fsdp=1, devices=jax.devices()[:4])
    with jax.set_mesh(mesh):
        spec = jax.sharding.PartitionSpec(mesh.axis_names)
        spread = jax.device_put(x, jax.sharding.NamedSharding(mesh, spec))
        got = run(variables, spread)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5),
        got,
        expected,
    )
