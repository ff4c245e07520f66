import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import clipin_jax
from clipin_jax.commands import main as cli
from clipin_jax.config import load_config
from clipin_jax.core.learner import build
from clipin_jax.data.text import make_tokenizer
from clipin_jax.errors import ClipinError
from clipin_jax.inference import explain
from clipin_jax.inference.saliency import METHODS, enlarge, make_map_fn
from clipin_jax.inference.saliency.attention_probe import AttentionProbe
from clipin_jax.inference.saliency.methods import (
    image_embedding,
    text_embedding,
    word_vectors,
)
from clipin_jax.models import bert_layers, pooling, transformer
from clipin_jax.models.resnet import ResNet
from clipin_jax.report import heatmaps
from clipin_jax.training.loop import train
from tests.parity.compare import stacked
from tests.support.tiny_runs import on_one_device, tiny_run

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
def test_every_host_offers_the_methods_of_its_parts(name):
    learner = build(load_config(f"{name}{',' if ':' in name else ':'}runlocal"))
    for method in set(METHODS) - OFFERS[name]:
        with pytest.raises(ClipinError, match="needs"):
            make_map_fn(learner, IMAGE[:1], TEXT[:1], method)
    for method in OFFERS[name]:
        make_map_fn(learner, IMAGE[:1], TEXT[:1], method)


@pytest.mark.parametrize(
    "name, method",
    [("clip:clipin", "prediction"), ("coca", "captioning"), ("coca", "pooling")],
)
def test_maps_are_finite_and_not_below_0(name, method):
    maps = maps_of(*model(name, method), method, words=True)
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
    probe = AttentionProbe(learner, image_embedding, variables, IMAGE, TEXT)
    layers = probe.layers("image", ("transformer",))
    assert [layer.path[3] for layer in layers] == ["blocks_0", "blocks_1"]
    plain, _ = probe.run([], [])
    tapped, (weights,) = probe.run(layers[:1], [jnp.zeros(layers[0].shape)])
    np.testing.assert_allclose(tapped, plain, atol=1e-6)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-6)


def check_gradient(learner, variables, forward, find):
    """dscore/dA against central differences at random entries, in float64."""
    variables = jax.tree.map(lambda x: np.asarray(x, np.float64), variables)
    probe = AttentionProbe(learner, forward, variables, IMAGE, TEXT)
    layer = find(probe)[-1]
    rng = np.random.default_rng(0)
    project = None

    def score(move):
        nonlocal project
        out = probe.run([layer], [move])[0]
        if project is None:
            project = rng.normal(size=out.shape)
        return jnp.sum(out * project)

    score(jnp.zeros(layer.shape))
    gradient = jax.grad(score)(jnp.zeros(layer.shape))
    scored, step = jax.jit(score), 1e-5
    for _ in range(12):
        entry = tuple(rng.integers(n) for n in layer.shape)
        move = np.zeros(layer.shape)
        move[entry] = step
        difference = (scored(move) - scored(-move)) / (2 * step)
        assert abs(difference - gradient[entry]) < 1e-8 + 1e-6 * abs(difference)
    assert np.abs(gradient).max() > 1e-6


@pytest.mark.parametrize(
    "name, forward, find",
    [
        ("clip", image_embedding, lambda p: p.layers("image", ("transformer",))),
        ("siglip", image_embedding, lambda p: p.layers("image", ("pool",))),
    ],
)
def test_the_gradient_is_that_of_finite_differences(name, forward, find):
    double = ("model.dtype=float64", "model.param_dtype=float64")
    with jax.enable_x64(True):
        learner, variables = model(name, "contrastive", *double)
        check_gradient(learner, variables, forward, find)


def test_maps_of_scanned_layers_are_those_of_the_same_layers_apart(clip):
    learner, variables = clip
    scanned = build(load_config("clip:runlocal", ("model.scan_layers=true",)))
    in_stacks = {"params": stacked(variables["params"])}
    ours = maps_of(learner, variables, "contrastive", layer=0, words=True)
    theirs = maps_of(scanned, in_stacks, "contrastive", layer=0, words=True)
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)


def test_words_share_the_change_of_the_cosine(clip):
    """All words together: the derivative when all attention grows by the same share."""
    learner, variables = clip
    probe = AttentionProbe(learner, text_embedding, variables, IMAGE, TEXT)
    vector, shares = jax.jit(lambda: word_vectors(probe, TEXT.shape[1]))()
    layer = probe.layers("text", (), "self")[-1]
    (weights,) = probe.weights([layer])
    step = 1e-2
    up, down = (probe.run([layer], [s * weights])[0] for s in (step, -step))
    np.testing.assert_allclose(
        shares.sum(axis=0), (up - down) / (2 * step), rtol=1e-2, atol=2e-4
    )
    assert np.abs(shares[5:]).max() < 1e-7  # behind the end of both texts


def test_a_map_does_not_depend_on_the_other_pairs(clip):
    learner, variables = clip
    both = maps_of(learner, variables, "contrastive").caption
    function = make_map_fn(learner, IMAGE[:1], TEXT[:1], "contrastive")
    alone = function(variables, variables, IMAGE[1:], TEXT[1:]).caption
    np.testing.assert_allclose(both[1:], alone, rtol=1e-4, atol=1e-7)


def test_wrong_requests_are_one_clear_message(clip):
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


def test_heatmaps_are_scaled_and_even_ones_are_zero():
    small = np.random.default_rng(0).random((4, 6))
    large = heatmaps.heatmap(small, (40, 60))
    assert large.shape == (40, 60) and large.min() == 0 and large.max() == 1
    for value in (0.0, 3.3, np.nan):
        even = heatmaps.heatmap(np.full((4, 4), value), (8, 8))
        assert np.array_equal(even, np.zeros((8, 8)))
    image = np.full((40, 60, 3), 90, np.uint8)
    shown = heatmaps.overlay(image, small)
    assert shown.shape == image.shape and shown.dtype == np.uint8
    assert np.array_equal(heatmaps.overlay(image, np.ones((4, 6))), image)
    # Where the map is greatest the image is dark red, where it is least unchanged.
    assert tuple(shown[np.unravel_index(large.argmax(), large.shape)]) == (128, 0, 0)
    assert tuple(shown[np.unravel_index(large.argmin(), large.shape)]) == (90, 90, 90)


def test_a_patch_peaks_in_its_middle_at_edges_too():
    for patch in np.ndindex(4, 4):
        small = np.zeros((4, 4))
        small[patch] = 1
        large = enlarge(small, (44, 44))
        peak = np.unravel_index(large.argmax(), large.shape)
        assert np.abs(np.subtract(peak, [11 * p + 5 for p in patch])).max() <= 1
        middle = ndimage.center_of_mass(large)
        assert np.abs(np.subtract(middle, [11 * p + 5 for p in patch])).max() < 3


def test_ids_become_words():
    tokenizer = make_tokenizer("bpe", context_length=8)
    text = "a Clipinish star and many other words"
    maps = np.arange(8, dtype=float)[:, None, None] * np.ones((8, 2, 2))
    words = explain.word_maps(text, maps, tokenizer)
    pieces = len(tokenizer.encode("clipinish"))
    assert 1 < pieces < 5
    assert [word for word, _ in words][:3] == ["a", "Clipinish", "star"]
    assert words[0][1][0, 0] == 1
    assert words[1][1][0, 0] == np.mean(np.arange(2, 2 + pieces))
    assert len(words) < 7  # the rest is cut off


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders of two tiny runs, and image files."""
    folder = tmp_path_factory.mktemp("explain")
    with on_one_device():
        for name in ("one", "two"):
            train(tiny_run("total_steps=2"), folder / name)
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (30, 50, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "text.png").write_text("no image")
    return folder


def test_images_are_explained_for_notebooks(trained):
    found = clipin_jax.explain_image(
        trained / "one", [trained / "0.png", trained / "1.png"], "a red star",
        words=True,
    )  # fmt: skip
    assert [e.text for e in found] == ["a red star"] * 2
    for explained in found:
        assert explained.image.shape == (30, 50, 3)
        assert explained.caption.ndim == 2 and explained.caption.dtype == np.float32
        assert [word for word, _ in explained.words] == ["a", "red", "star"]
        assert all(m.shape == explained.caption.shape for _, m in explained.words)


def test_the_command_writes_one_image_of_all_runs(trained, capsys):
    output = trained / "sheet.png"
    words = ["--image", str(trained / "0.png"), "--text", "a red star", "a box"]
    runs = [str(trained / "one"), str(trained / "two")]
    where = ["--output", str(output)]
    assert cli.main(["explain", *runs, *words, *where]) == 0
    with Image.open(output) as sheet:
        two_rows = sheet.size
    assert str(output) in capsys.readouterr().out
    assert two_rows[0] > 3 * heatmaps.CELL
    prediction = ["--words", "--method", "prediction", "--layer", "0"]
    assert cli.main(["explain", runs[0], *words, *where, *prediction]) == 0
    with Image.open(output) as sheet:
        assert sheet.size[0] > 5 * heatmaps.CELL


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(images="no.png"), "no.png does not exist"),
        (dict(images="text.png"), "is no image"),
        (dict(texts=""), "empty"),
        (dict(texts=[]), "no text"),
        (dict(layer=9), "layers 0 to 0"),
        (dict(method="matching"), "objectives.matching"),
        (dict(workdir="."), "config"),
    ],
)
def test_wrong_input_is_one_clear_message(trained, arguments, message):
    given = dict(workdir="one", images="0.png", texts="a red star") | arguments
    folder = trained / given.pop("workdir")
    images = trained / given.pop("images")
    with pytest.raises(ClipinError, match=message):
        explain.explain_image(folder, images, given.pop("texts"), **given)


def test_a_run_without_a_checkpoint(trained, tmp_path):
    (tmp_path / "config.json").write_bytes(
        (trained / "one" / "config.json").read_bytes()
    )
    with pytest.raises(ClipinError, match="no checkpoint"):
        explain.explain_image(tmp_path, trained / "0.png", "a red star")
