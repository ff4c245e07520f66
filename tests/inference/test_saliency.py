import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from clipin_jax.config import load_config
from clipin_jax.core.learner import build
from clipin_jax.errors import ClipinError
from clipin_jax.inference.saliency import METHODS, enlarge, make_map_fn
from clipin_jax.inference.saliency.attention_probe import AttentionProbe
from clipin_jax.inference.saliency.gradcam import (
    image_embedding,
    text_embedding,
    word_vectors,
)
from clipin_jax.models import bert_layers, pooling, transformer
from clipin_jax.models.resnet import ResNet
from tests.parity.compare import stacked

TEXT = np.array([[9, 5, 6, 7, 63, 0, 0, 0], [9, 5, 8, 63, 0, 0, 0, 0]], np.int32)
IMAGE = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
OFFERS = {
    "clip": {"contrastive"},
    "clip:clipin": {"contrastive", "prediction"},
    "siglip": {"contrastive", "pooling"},
    "albef": {"contrastive", "matching"},
    "blip": {"contrastive", "matching", "captioning"},
    "coca": {"contrastive", "captioning", "pooling"},
}


def model(name, method="contrastive", *overrides):
    """A tiny learner and parameters for what one method needs."""
    separator = "," if ":" in name else ":"
    learner = build(load_config(f"{name}{separator}runlocal", overrides))

    def touch(m, *pair):
        for forward in METHODS[method].passes:
            forward(m, *pair)

    init = jax.jit(lambda key: learner.init(key, IMAGE, TEXT, method=touch))
    return learner, init(jax.random.key(0))


@pytest.fixture(scope="module")
def clip():
    return model("clip")


def maps_of(learner, variables, method, **options):
    function = make_map_fn(learner, IMAGE[:1], TEXT[:1], method, **options)
    return jax.jit(function)(variables, variables, IMAGE, TEXT)


@pytest.mark.parametrize("name", OFFERS)
def test_every_framework_offers_the_methods_of_its_towers(name):
    learner = build(load_config(f"{name}{',' if ':' in name else ':'}runlocal"))
    for method in set(METHODS) - OFFERS[name]:
        with pytest.raises(ClipinError, match="needs"):
            make_map_fn(learner, IMAGE[:1], TEXT[:1], method)
    for method in OFFERS[name]:
        make_map_fn(learner, IMAGE[:1], TEXT[:1], method)


@pytest.mark.parametrize(
    "name, method, overrides",
    [
        ("clip:clipin", "prediction", ("model.text.depth=1",)),
        ("coca", "captioning", ("model.text.depth=1", "model.text.decoder_depth=1")),
        ("coca", "pooling", ()),
    ],
)
def test_maps_are_finite_and_not_below_0(name, method, overrides):
    small = ("model.image.depth=1", *overrides)
    maps = maps_of(*model(name, method, *small), method, words=True)
    assert maps.caption.shape == (2, 4, 4)
    assert np.isfinite(maps.caption).all() and np.min(maps.caption) >= 0
    assert np.max(maps.caption) > 0
    assert (maps.tokens is None) == (method == "pooling")
    if maps.tokens is not None:
        assert maps.tokens.shape == (2, 8, 4, 4)
        assert np.isfinite(maps.tokens).all() and np.min(maps.tokens) >= 0


def test_without_taps_the_program_is_the_same(clip, monkeypatch):
    """The compiled program is that of a model without taps."""
    learner, variables = clip

    def program():
        def encode(variables, image, text):
            view = {"image": image, "text": text}
            return learner.apply(variables, view, method="encode")

        return jax.jit(encode).lower(variables, IMAGE, TEXT).as_text()

    with_taps = program()
    for module in (transformer, bert_layers, pooling):
        monkeypatch.setattr(module, "attention_tap", lambda *_: None)
    assert program() == with_taps
    key, view = jax.random.key(0), {"image": IMAGE, "text": TEXT}
    fresh = jax.eval_shape(lambda: learner.init(key, view, method="encode"))
    assert set(fresh) == {"params"}


def test_a_tapped_layer_gives_the_same_output(clip):
    """The output is the same up to rounding; other layers have no explicit softmax."""
    learner, variables = clip

    @jax.jit
    def run(variables):
        probe = AttentionProbe(learner, image_embedding, variables, IMAGE, TEXT)
        layers = probe.layers("image", ("transformer",))
        assert [layer.path[3] for layer in layers] == ["blocks_0", "blocks_1"]
        plain, _ = probe.run([], [])
        return plain, probe.run(layers[:1], [jnp.zeros(layers[0].shape)])

    plain, (tapped, (weights,)) = run(variables)
    np.testing.assert_allclose(tapped, plain, atol=1e-6)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-6)


def check_gradient(learner, variables, forward, find):
    """dscore/dA against central differences at random entries, in float64."""
    variables = jax.tree.map(lambda x: np.asarray(x, np.float64), variables)
    probe = AttentionProbe(learner, forward, variables, IMAGE, TEXT)
    layer = find(probe)[-1]
    rng = np.random.default_rng(0)
    project = rng.normal(size=jax.eval_shape(probe.run, (), ())[0].shape)

    @jax.jit
    @jax.value_and_grad
    def score(move):
        return jnp.sum(probe.run([layer], [move])[0] * project)

    gradient, step = score(jnp.zeros(layer.shape))[1], 1e-5
    for _ in range(12):
        entry = tuple(rng.integers(n) for n in layer.shape)
        move = np.zeros(layer.shape)
        move[entry] = step
        difference = (score(move)[0] - score(-move)[0]) / (2 * step)
        assert abs(difference - gradient[entry]) < 1e-8 + 1e-6 * abs(difference)
    assert np.abs(gradient).max() > 1e-6


@pytest.mark.parametrize(
    "name, forward, find",
    [
        ("clip", image_embedding, lambda p: p.layers("image", ("transformer",))),
        ("siglip", image_embedding, lambda p: p.layers("image", ("pool",))),
    ],
)
def test_the_gradient_equals_finite_differences(name, forward, find):
    double = ("model.dtype=float64", "model.param_dtype=float64")
    with jax.enable_x64(True):
        learner, variables = model(name, "contrastive", *double)
        check_gradient(learner, variables, forward, find)


def test_maps_of_scanned_layers_equal_those_of_single_layers(clip):
    learner, variables = clip
    scanned = build(load_config("clip:runlocal", ("model.scan_layers=true",)))
    in_stacks = {"params": stacked(variables["params"])}
    apart = maps_of(learner, variables, "contrastive", layer=0, words=True)
    in_loop = maps_of(scanned, in_stacks, "contrastive", layer=0, words=True)
    for x, y in zip(apart, in_loop, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)


def test_maps_of_words_add_up_to_the_change_of_the_cosine(clip):
    """All words together: the derivative when all attention grows by the same share."""
    learner, variables = clip
    step = 1e-2

    @jax.jit
    def run(variables):
        probe = AttentionProbe(learner, text_embedding, variables, IMAGE, TEXT)
        layer = probe.layers("text", (), "self")[-1]
        (weights,) = probe.weights([layer])
        up, down = (probe.run([layer], [s * weights])[0] for s in (step, -step))
        return word_vectors(probe, TEXT.shape[1])[1], (up - down) / (2 * step)

    shares, change = run(variables)
    np.testing.assert_allclose(shares.sum(axis=0), change, rtol=1e-2, atol=2e-4)
    assert np.abs(shares[5:]).max() < 1e-7  # after the end of both texts


def test_a_map_does_not_depend_on_the_other_pairs(clip):
    learner, variables = clip
    maps = jax.jit(make_map_fn(learner, IMAGE[:1], TEXT[:1], "contrastive"))
    both = maps(variables, variables, IMAGE, TEXT).caption
    other = maps(variables, variables, IMAGE[[1, 1]], TEXT[[1, 1]]).caption
    np.testing.assert_allclose(both[1], other[1], rtol=1e-4, atol=1e-7)
    assert np.abs(both[0] - other[0]).max() > 1e-4


def test_wrong_requests_are_one_line_errors(clip):
    learner, _ = clip
    pair = IMAGE[:1], TEXT[:1]
    with pytest.raises(ClipinError, match=r"layer 7 .* layers 0 to 1 \(image/trans"):
        make_map_fn(learner, *pair, layer=7)
    with pytest.raises(ClipinError, match="contrastve.*contrastive"):
        make_map_fn(learner, *pair, method="contrastve")
    config = load_config("clip:runlocal")
    towers = build(config).towers.clone(image=ResNet((1, 1, 1, 1), 8, 2, 16, (32, 32)))
    resnet = build(config).clone(towers=towers)
    with pytest.raises(ClipinError, match="vision transformer"):
        make_map_fn(resnet, *pair)


def test_upscaled_maps_peak_in_the_middle_of_the_patch():
    for patch in np.ndindex(4, 4):
        small = np.zeros((4, 4))
        small[patch] = 1
        large = enlarge(small, (44, 44))
        peak = np.unravel_index(large.argmax(), large.shape)
        assert np.abs(np.subtract(peak, [11 * p + 5 for p in patch])).max() <= 1
        middle = ndimage.center_of_mass(large)
        assert np.abs(np.subtract(middle, [11 * p + 5 for p in patch])).max() < 3
