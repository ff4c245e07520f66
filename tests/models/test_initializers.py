"""How the joint space and the heads start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.config import load_config
from clipin_jax.errors import ClipinError
from clipin_jax.models.layers import LINEAR_INITS, orthogonal
from clipin_jax.runs.build import build_experiment
from tests.support.small_learner import by_path

SLOW = pytest.mark.slow
HOSTS = (
    "clip", "nclip", "albef",
    *(pytest.param(host, marks=SLOW) for host in ("siglip", "xclip", "blip", "coca")),
)  # fmt: skip


@pytest.mark.parametrize("shape", [(7, 7), (5, 12), (12, 5)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_orthogonal_matrices_have_equal_singular_values(shape, dtype):
    matrix = orthogonal(jax.random.key(0), shape, dtype)
    assert matrix.dtype == dtype
    values = np.linalg.svd(np.asarray(matrix, np.float32), compute_uv=False)
    np.testing.assert_allclose(values, 1, atol=1e-5 if dtype == jnp.float32 else 1e-2)


def heads(state):
    """Returns path -> array of the linear layers between towers and losses."""
    return {
        path: x
        for path, x in by_path(state.params).items()
        if "_projector/" in path or "_projection/" in path
    }


@pytest.mark.parametrize("host", HOSTS)
def test_every_host_starts_orthogonal_with_the_plug_in(host):
    state = first_state(f"{host}:runlocal,clipin")
    kernels = {p: x for p, x in heads(state).items() if p.endswith("kernel")}
    assert {"image", "text"} <= {p.split("/")[1].split("_")[0] for p in kernels}
    for path, kernel in kernels.items():
        values = np.linalg.svd(kernel, compute_uv=False)
        np.testing.assert_allclose(values, 1, atol=1e-5, err_msg=path)
    biases = [x for p, x in heads(state).items() if p.endswith("bias")]
    assert biases and not any(np.any(bias) for bias in biases)


@pytest.mark.parametrize("init", LINEAR_INITS)
def test_towers_start_alike_whatever_the_heads(init):
    plain, other = (
        by_path(first_state("clip:runlocal", projection_init=name).params)
        for name in ("released", init)
    )
    assert plain.keys() == other.keys()
    for path, value in plain.items():
        is_head = "_projection/" in path
        if not is_head or init != "orthogonal":  # CLIP's own start is "clip"
            np.testing.assert_array_equal(value, other[path])
        else:
            assert not np.array_equal(value, other[path])


def first_state(spec, **model):
    changes = {f"model.{key}": value for key, value in model.items()}
    experiment = build_experiment(load_config(spec, changes=changes), jax.devices()[:1])
    return experiment.init_state()


def test_an_unknown_start_is_named():
    with pytest.raises(ClipinError, match="model.projection_init is 'orthognal'"):
        first_state("clip:runlocal", projection_init="orthognal")
