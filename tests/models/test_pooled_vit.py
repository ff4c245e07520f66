import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.models.pooled_vit import PooledViT

SIZES = dict(
    patch_size=(8, 8), image_size=(16, 16), width=24, depth=1, num_heads=3,
    num_queries=5, pool_width=16, pool_heads=2,
)  # fmt: skip
IMAGE = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))


def built(**changes):
    tower = PooledViT(**SIZES | changes)
    return tower, jax.jit(tower.init)(jax.random.key(1), IMAGE)["params"]


@pytest.mark.parametrize(("pool", "captions"), [("single", 4), ("cascade", 5)])
@pytest.mark.parametrize("class_token", [True, False])
def test_shapes_of_tokens_and_pooled(pool, captions, class_token):
    tower, params = built(pool=pool, class_token=class_token)
    features = tower.apply({"params": params}, IMAGE)
    assert features["tokens"].shape == (2, captions, 16)
    assert features["pooled"].shape == (2, 16)
    assert len(params["position_embedding"]) == 4 + class_token
    assert ("class_embedding" in params) is class_token
    assert not np.allclose(features["pooled"][0], features["pooled"][1])


def test_the_contrastive_query_of_a_cascade_reads_the_captions():
    scale = jnp.array([1.0, -1, 1, 1, 1])[:, None]  # another second query
    moved = {}
    for pool in ("single", "cascade"):
        tower, params = built(pool=pool)
        before, after = (pooled_of(tower, params, s) for s in (jnp.ones((5, 1)), scale))
        moved[pool] = not np.allclose(before, after)
    assert moved == {"single": False, "cascade": True}


def pooled_of(tower, params, scale):
    pool = params["caption_pool"]
    pool = pool | {"query": pool["query"] * scale}
    changed = {"params": params | {"caption_pool": pool}}
    return tower.apply(changed, IMAGE)["pooled"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(pool="both"), "model.image.pool is 'both'"),
        (dict(pool_heads=3), "a number of heads that divides the width"),
        (dict(num_queries=1), "must be at least 2 with pool 'single'"),
        (dict(num_queries=0, pool="cascade"), "at least one query"),
    ],
)
def test_wrong_input(changes, message):
    with pytest.raises(ClipinError, match=message):
        built(**changes)
