"""Comparison of trees with the golden files' measure of deviation."""

import jax
import numpy as np

from clipin_jax.core.parameter_paths import path_name


def deviation(ours, reference) -> float:
    """max |a - b| / max |b|."""
    ours, reference = np.asarray(ours), np.asarray(reference)
    assert ours.shape == reference.shape, (ours.shape, reference.shape)
    scale = np.max(np.abs(reference))
    return float(np.max(np.abs(ours - reference)) / (scale if scale else 1.0))


def assert_tree_close(ours, reference, tolerance, zero=lambda path: None) -> None:
    """Every leaf within `tolerance`; both trees have the same leaves.

    `zero(path)` names the entries (an index, or `...` for all) that are zero by
    structure: rounding noise, compared absolutely at 1e-13.
    """
    ours = jax.device_get(ours)
    paths = {path_name(p): x for p, x in jax.tree_util.tree_leaves_with_path(ours)}
    expected = {
        path_name(p): x for p, x in jax.tree_util.tree_leaves_with_path(reference)
    }
    assert paths.keys() == expected.keys(), paths.keys() ^ expected.keys()
    for path, value in paths.items():
        value, wanted = np.array(value), np.array(expected[path])
        noise = zero(path)
        if noise is not None:
            assert np.max(np.abs(value[noise])) < 1e-13, path
            value[noise] = wanted[noise] = 0
        assert deviation(value, wanted) < tolerance, (path, deviation(value, wanted))


def stacked(tree):
    """The tree of a model with scanned layers: `blocks_0`, ... stacked as `blocks`."""
    if not isinstance(tree, dict):
        return tree
    layers = sorted(
        (k for k in tree if k.startswith("blocks_")), key=lambda k: int(k[7:])
    )
    rest = {k: stacked(v) for k, v in tree.items() if k not in layers}
    if not layers:
        return rest
    stack = jax.tree.map(lambda *p: np.stack(p), *(tree[k] for k in layers))
    return rest | {"blocks": stack}
