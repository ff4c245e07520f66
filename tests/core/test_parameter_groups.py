"""Groups of parameters by path: factors, clipping, layer-wise decay, wrong rules."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from clipin_jax.config import from_json, load_config, to_json
from clipin_jax.core.optimizer_chain import make_optimizer
from clipin_jax.core.parameter_groups import layer_factors
from clipin_jax.core.parameter_paths import merge, paths_of, split
from clipin_jax.errors import ClipinError
from clipin_jax.runs.build import build_experiment
from tests.support.tiny import tiny_config

PARAMS = {
    "towers": {
        "image": {"kernel": jnp.ones(2), "bias": jnp.ones(2)},
        "text": {"kernel": jnp.ones(2)},
    },
    "objectives_clipin": {"kernel": jnp.ones(2)},
}
NUMBERS = {"optim": dict(learning_rate=0.1, weight_decay=0.5)}


def updates_of(grads, **keys):
    """The updates of plain gradient descent."""
    keys = dict(name="sgd", momentum=None) | keys
    chain = make_optimizer(ConfigDict(keys))(NUMBERS)
    updates, _ = chain.update(grads, chain.init(PARAMS), PARAMS)
    return {path: float(leaf[0]) for path, leaf in flat(updates).items()}


def flat(tree):
    return dict(zip(paths_of(tree), jax.tree.leaves(tree), strict=True))


def test_the_first_rule_that_matches_sets_the_factors():
    updates = updates_of(
        jax.tree.map(jnp.ones_like, PARAMS),
        no_decay=("bias$",),
        groups=(
            ("^towers/image/kernel", dict(learning_rate=0.5, weight_decay=0.0)),
            ("^towers/image", dict(learning_rate=0.0)),
            ("^towers", dict(weight_decay=2)),
            ("kernel$", dict(learning_rate=10.0)),
        ),
    )
    np.testing.assert_allclose(updates["towers/image/kernel"], -0.1 * 0.5)
    np.testing.assert_allclose(updates["towers/image/bias"], 0)
    np.testing.assert_allclose(updates["towers/text/kernel"], -0.1 * (1 + 2 * 0.5))
    np.testing.assert_allclose(updates["objectives_clipin/kernel"], -1 * (1 + 0.5))


def test_a_group_with_a_norm_is_clipped_apart():
    grads = jax.tree.map(lambda x: 3 * jnp.ones_like(x), PARAMS)
    rest = ["towers/image/bias", "towers/text/kernel"]
    updates = updates_of(
        grads,
        no_decay=(".",),
        clip_norm=1.0,
        groups=(
            ("^objectives", dict(clip_norm=0.5)),
            ("image/kernel", dict(clip_norm=0.0)),
        ),
    )
    np.testing.assert_allclose(
        updates["objectives_clipin/kernel"], -0.1 * 0.5 / np.sqrt(2), rtol=1e-6
    )
    np.testing.assert_allclose(updates["towers/image/kernel"], -0.1 * 3, rtol=1e-6)
    np.testing.assert_allclose(
        [updates[path] for path in rest], -0.1 / np.sqrt(4), rtol=1e-6
    )


def test_split_and_merge_are_inverse():
    first, rest = split(PARAMS, lambda path: "image" in path)
    assert paths_of(first) == ["towers/image/bias", "towers/image/kernel"]
    assert flat(merge(first, rest)).keys() == flat(PARAMS).keys()
    assert flat(merge(rest, first)) == flat(PARAMS)


@pytest.mark.parametrize(
    "groups, message",
    [
        ("towers", "optim.groups is 'towers': give pairs"),
        (("towers",), r"optim.groups\[0\] is 'towers': give a pair"),
        ((("a", dict()), ("(", dict())), r"groups\[1\] has '\(', .* regular"),
        ((("a", dict(learning_rat=1.0)),), "learning_rat .* mean 'learning_rate'"),
        ((("a", dict(learning_rate=-1.0)),), "learning_rate is -1.0: give a number"),
        ((("a", dict(learning_rate="low")),), "learning_rate is 'low'"),
        ((("a", dict(freeze=1)),), "freeze is 1: give True or False"),
        ((("a", dict(freeze=True, clip_norm=1.0)),), "leave its other options out"),
    ],
)  # fmt: skip
def test_invalid_rules_are_refused(groups, message):
    with pytest.raises(ClipinError, match=message) as error:
        make_optimizer(ConfigDict(dict(groups=groups)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "rule, message",
    [
        ("('^towers/imag/', {'freeze': True})", "matches no parameter.*'towers/image'"),
        ("('^model.image', {'freeze': True})", "matches no parameter.*'towers/image'"),
        ("('xyz123', {'learning_rate': 2})", "'xyz123' matches no.*paths begin with"),
        ("('', {'freeze': True})", "freezes every parameter"),
    ],
)
def test_a_rule_that_does_not_fit_the_model(rule, message):
    config = tiny_config(f"optim.groups=({rule},)", clipin=False)
    with pytest.raises(ClipinError, match=message) as error:
        build_experiment(config, jax.devices()[:1])
    assert "\n" not in str(error.value)


def test_rules_are_kept_in_a_runs_config():
    config = tiny_config("optim.groups=(('^towers/image/', {'freeze': True}),)")
    again = from_json(to_json(config))
    assert make_optimizer(again.optim) == make_optimizer(config.optim)


def layers(stack, count):
    return [f"{stack}/blocks_{i}/" for i in range(count)]


# Per tower parts of it, from the input to the output, one for each factor.
TOWERS = {
    "clip:runlocal": {
        "image": ["patch_embed/", *layers("transformer", 2)],
        "text": ["token_embedding/", *layers("transformer", 2)],
    },
    "clip:runlocal,tower=RN50": {
        "image": ["stem_", *(f"stage_{i}_block_0/" for i in range(4))],
    },
    "albef:runlocal": {
        "text": [
            "embeddings/",
            *layers("text_layers", 2),
            *layers("fusion_layers", 2),
        ],
    },
    "blip:runlocal": {"text": ["embeddings/", *layers("layers", 2)]},
    "coca:runlocal": {
        "text": [
            "class_embedding",
            *layers("transformer", 2),
            *layers("decoder", 2),
        ],
    },
}


@pytest.mark.parametrize("name", TOWERS)
def test_rates_fall_from_the_output_of_every_tower_to_its_input(name):
    run = build_experiment(load_config(name), jax.devices()[:1])
    paths = paths_of(run.abstract_state.params)
    order = tuple(run.learner.layer_order.items())
    factors = layer_factors(run.abstract_state.params, 0.5, order)
    for tower, parts in TOWERS[name].items():
        for depth, part in enumerate(reversed(parts), start=1):
            inside = [p for p in paths if p.startswith(f"towers/{tower}/{part}")]
            assert inside and all(factors[p] == 0.5**depth for p in inside), part
    heads = [p for p in paths if re.search("projection|objectives|/ln_(post|final)", p)]
    assert heads and not factors.keys() & set(heads)


def test_scanned_layers_have_the_factors_of_single_ones():
    def factors_of(*overrides):
        config = tiny_config("model.image.depth=3", *overrides, clipin=False)
        run = build_experiment(config, jax.devices()[:1])
        order = tuple(run.learner.layer_order.items())
        return layer_factors(run.abstract_state.params, 0.75, order)

    single, stacked = factors_of(), factors_of("model.scan_layers=True")
    path = "towers/image/transformer/{}/mlp_in/kernel"
    expected = [single[path.format(f"blocks_{i}")] for i in range(3)]
    np.testing.assert_array_equal(expected, [0.75**3, 0.75**2, 0.75])
    np.testing.assert_array_equal(stacked[path.format("blocks")].ravel(), expected)
    assert stacked[path.format("blocks")].shape == (3, 1, 1)
    outside = [key for key in single if "blocks" not in key]
    assert outside and all(
        single[key] == stacked[key] == 0.75**4 or "text" in key for key in outside
    )


def test_layer_decay_scales_the_updates_of_each_layer():
    params = {"towers": {"image": {"blocks": {"kernel": jnp.ones((2, 3))}, "ln": 1.0}}}
    order = {"towers/image": ("^embed", r"^blocks(?:_(\d+))?/")}
    optim = ConfigDict(dict(name="sgd", momentum=None, layer_decay=0.5))
    chain = make_optimizer(optim, order)(
        NUMBERS | {"optim": dict(learning_rate=1.0, weight_decay=0.0)}
    )
    grads = jax.tree.map(jnp.ones_like, params)
    updates, _ = chain.update(grads, chain.init(params), params)
    kernel = updates["towers"]["image"]["blocks"]["kernel"]
    np.testing.assert_array_equal(kernel, -np.array([[0.25], [0.5]]) * np.ones((2, 3)))
    assert updates["towers"]["image"]["ln"] == -1
    with pytest.raises(ClipinError, match="layers of towers/image are unknown"):
        make_optimizer(optim, {"towers/image": ()}).check(params)
