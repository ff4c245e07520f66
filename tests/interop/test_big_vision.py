"""Files of big_vision: SigLIP's features, from a slow copy and from transformers."""

import math

import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.interop.foreign_model import check_settings
from clipin_jax.interop.open_model import open_model
from tests.parity.golden_files import load
from tests.support.golden_models import Started, assert_features, config_of, parameters

PAGE = "siglip:runlocal"
WIDTH, HEADS, DEPTH, HIDDEN, PATCH, SIDE = 12, 3, 2, 20, 4, 3
LENGTH, WORDS = 5, 11
QKV = ("query", "key", "value")


def attention_arrays(rng, name, width, heads):
    small = width // heads
    for part in QKV:
        yield f"{name}/{part}/kernel", rng.normal(size=(width, heads, small))
        yield f"{name}/{part}/bias", rng.normal(size=(heads, small))
    yield f"{name}/out/kernel", rng.normal(size=(heads, small, width))
    yield f"{name}/out/bias", rng.normal(size=width)


def block_arrays(rng, name, norms):
    for norm in norms:
        yield f"{name}/{norm}/scale", rng.normal(size=WIDTH)
        yield f"{name}/{norm}/bias", rng.normal(size=WIDTH)
    attention = f"{name}/MultiHeadDotProductAttention_0"
    yield from attention_arrays(rng, attention, WIDTH, HEADS)
    for layer, sizes in (("Dense_0", (WIDTH, HIDDEN)), ("Dense_1", (HIDDEN, WIDTH))):
        yield f"{name}/MlpBlock_0/{layer}/kernel", rng.normal(size=sizes)
        yield f"{name}/MlpBlock_0/{layer}/bias", rng.normal(size=sizes[1])


def encoder_arrays(rng, name):
    for layer in range(DEPTH):
        norms = ("LayerNorm_0", "LayerNorm_1")
        yield from block_arrays(rng, f"{name}/encoderblock_{layer}", norms)
    yield f"{name}/encoder_norm/scale", rng.normal(size=WIDTH)
    yield f"{name}/encoder_norm/bias", rng.normal(size=WIDTH)


def vit_arrays(rng, prefix):
    yield f"{prefix}embedding/kernel", rng.normal(size=(PATCH, PATCH, 3, WIDTH))
    yield f"{prefix}embedding/bias", rng.normal(size=WIDTH)
    yield f"{prefix}pos_embedding", rng.normal(size=(1, SIDE * SIDE, WIDTH))
    yield from encoder_arrays(rng, f"{prefix}Transformer")
    pool = f"{prefix}MAPHead_0"
    yield f"{pool}/probe", rng.normal(size=(1, 1, WIDTH))
    yield from block_arrays(rng, pool, ("LayerNorm_0",))


def siglip_arrays():
    """Returns random parameters in big_vision's layout."""
    rng = np.random.default_rng(0)
    arrays = dict(vit_arrays(rng, "img/"))
    arrays["txt/Embed_0/embedding"] = rng.normal(size=(WORDS, WIDTH))
    arrays["txt/pos_embedding"] = rng.normal(size=(1, LENGTH, WIDTH))
    arrays |= dict(encoder_arrays(rng, "txt/Encoder_0"))
    arrays["txt/head/kernel"] = rng.normal(size=(WIDTH, WIDTH))
    arrays["txt/head/bias"] = rng.normal(size=WIDTH)
    arrays |= {"t": np.array([2.0]), "b": np.array([-9.0])}
    return {name: (value * 0.5).astype("f4") for name, value in arrays.items()}


def slow_norm(p, name, x):
    rows = []
    for row in x:
        spread = math.sqrt(sum((row - row.mean()) ** 2) / len(row) + 1e-6)
        rows.append(
            (row - row.mean()) / spread * p[f"{name}/scale"] + p[f"{name}/bias"]
        )
    return np.array(rows)


def slow_attention(p, name, queries, tokens):
    """Head by head, query by query; queries [Q, D], tokens [N, D] -> [Q, D]."""
    name = f"{name}/MultiHeadDotProductAttention_0"
    result = np.zeros_like(queries) + p[f"{name}/out/bias"]
    for head in range(p[f"{name}/query/kernel"].shape[1]):
        q, k, v = (
            x @ p[f"{name}/{part}/kernel"][:, head] + p[f"{name}/{part}/bias"][head]
            for part, x in zip(QKV, (queries, tokens, tokens), strict=True)
        )
        for i, query in enumerate(q):
            weights = np.exp([query @ key / math.sqrt(len(key)) for key in k])
            mixed = sum(w * x for w, x in zip(weights / weights.sum(), v, strict=True))
            result[i] += mixed @ p[f"{name}/out/kernel"][head]
    return result


def slow_perceptron(p, name, x):
    name = f"{name}/MlpBlock_0"
    x = x @ p[f"{name}/Dense_0/kernel"] + p[f"{name}/Dense_0/bias"]
    x = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x @ p[f"{name}/Dense_1/kernel"] + p[f"{name}/Dense_1/bias"]


def slow_encoder(p, name, x):
    for layer in range(DEPTH):
        block = f"{name}/encoderblock_{layer}"
        y = slow_norm(p, f"{block}/LayerNorm_0", x)
        x = x + slow_attention(p, block, y, y)
        y = slow_norm(p, f"{block}/LayerNorm_1", x)
        x = x + slow_perceptron(p, block, y)
    return slow_norm(p, f"{name}/encoder_norm", x)


def slow_patches(p, image):
    """[H, W, 3] -> [N, D], without positions."""
    kernel, patches = p["img/embedding/kernel"], []
    for row in range(SIDE):
        for column in range(SIDE):
            rows = slice(row * PATCH, (row + 1) * PATCH)
            patch = image[rows, column * PATCH : (column + 1) * PATCH]
            patches.append(np.einsum("hwc,hwcd->d", patch, kernel))
    return np.array(patches) + p["img/embedding/bias"]


def slow_image(p, image):
    """[H, W, 3] -> [D]."""
    x = slow_patches(p, image) + p["img/pos_embedding"][0]
    x = slow_encoder(p, "img/Transformer", x)
    pooled = slow_attention(p, "img/MAPHead_0", p["img/MAPHead_0/probe"][0], x)
    y = slow_norm(p, "img/MAPHead_0/LayerNorm_0", pooled)
    return (pooled + slow_perceptron(p, "img/MAPHead_0", y))[0]


def slow_class_token(p, image):
    """[H, W, 3] -> [D] of a ViT that is pooled by its class token."""
    tokens = [*p["img/cls"][0], *(slow_patches(p, image) + p["img/pos_embedding"][0])]
    return slow_encoder(p, "img/Transformer", np.array(tokens))[0]


def slow_text(p, ids):
    """[L] -> [D]."""
    x = p["txt/Embed_0/embedding"][ids] + p["txt/pos_embedding"][0]
    last = slow_encoder(p, "txt/Encoder_0", x)[-1]
    return last @ p["txt/head/kernel"] + p["txt/head/bias"]


def unit(rows):
    return np.array([row / math.sqrt(row @ row) for row in rows])


def stacked(arrays):
    """Returns the arrays of a model with scanned layers."""
    out = {}
    for name, value in arrays.items():
        if "encoderblock_0/" in name:
            layers = [name.replace("block_0/", f"block_{n}/") for n in range(DEPTH)]
            whole = name.replace("encoderblock_0/", "encoderblock/")
            out[whole] = np.stack([arrays[layer] for layer in layers])
        elif "encoderblock_" not in name:
            out[name] = value
    return out


def write_npz(path, arrays, prefix=""):
    np.savez(path, **{f"{prefix}{name}": value for name, value in arrays.items()})
    return path


@pytest.fixture(scope="module")
def arrays():
    return siglip_arrays()


@pytest.mark.parametrize("scanned", [False, True])
def test_features_of_a_slow_copy(arrays, tmp_path, scanned):
    """Scanned layers are those of a whole training state."""
    path = tmp_path / "siglip.npz"
    if scanned:
        write_npz(path, stacked(arrays), "params/")
        with np.load(path) as file:
            content = dict(file)
        np.savez(path, **content, **{"opt/0/count": np.array(3)})
    else:
        write_npz(path, arrays)
    started = Started(path, PAGE, f"model.scan_layers={scanned}")
    rng = np.random.default_rng(1)
    images = rng.normal(size=(2, PATCH * SIDE, PATCH * SIDE, 3)).astype("f4")
    ids = rng.integers(0, WORDS, (2, LENGTH))
    p = {name: value.astype("f8") for name, value in arrays.items()}
    ours = started.features(images.transpose(0, 3, 1, 2), ids)
    image = unit([slow_image(p, x) for x in images.astype("f8")])
    text = unit([slow_text(p, x) for x in ids])
    for got, expected in zip(ours, (image, text), strict=True):
        assert np.abs(got - expected).max() < 1e-5
    assert started.flat["objectives_sigmoid/logit_bias"] == -4.5
    [_, line] = started.lines
    assert line.endswith("data.tokenizer.name=sentencepiece")


def golden_arrays(arrays, c):
    """Returns Hugging Face's SigLIP in big_vision's layout."""
    out = {"t": arrays["logit_scale"], "b": arrays["logit_bias"]}
    pixels = arrays["vision_model.embeddings.patch_embedding.weight"]
    out["img/embedding/kernel"] = pixels.transpose(2, 3, 1, 0)
    out["img/embedding/bias"] = arrays["vision_model.embeddings.patch_embedding.bias"]
    words = arrays["text_model.embeddings.token_embedding.weight"]
    out["txt/Embed_0/embedding"] = words
    out["txt/head/kernel"] = arrays["text_model.head.weight"].T
    out["txt/head/bias"] = arrays["text_model.head.bias"]
    towers = (
        ("vision_model", "img", "Transformer", "post_layernorm", c["v_heads"]),
        ("text_model", "txt", "Encoder_0", "final_layer_norm", c["t_heads"]),
    )
    for theirs, ours, encoder, last, heads in towers:
        positions = arrays[f"{theirs}.embeddings.position_embedding.weight"]
        out[f"{ours}/pos_embedding"] = positions[None]
        for leaf, name in (("scale", "weight"), ("bias", "bias")):
            norm = arrays[f"{theirs}.{last}.{name}"]
            out[f"{ours}/{encoder}/encoder_norm/{leaf}"] = norm
        for n in range(2):
            layer = f"{theirs}.encoder.layers.{n}"
            block = f"{ours}/{encoder}/encoderblock_{n}"
            linear = [
                (arrays[f"{layer}.self_attn.{x}_proj.weight"],
                 arrays[f"{layer}.self_attn.{x}_proj.bias"])
                for x in ("q", "k", "v", "out")
            ]  # fmt: skip
            put_attention(out, block, linear, heads)
            put_block(out, block, arrays, layer, ("layer_norm1", "layer_norm2"))
    head = "vision_model.head"
    out["img/MAPHead_0/probe"] = arrays[f"{head}.probe"]
    kernels = np.split(arrays[f"{head}.attention.in_proj_weight"], 3)
    biases = np.split(arrays[f"{head}.attention.in_proj_bias"], 3)
    linear = list(zip(kernels, biases, strict=True))
    last = f"{head}.attention.out_proj"
    linear.append((arrays[f"{last}.weight"], arrays[f"{last}.bias"]))
    put_attention(out, "img/MAPHead_0", linear, c["v_heads"])
    put_block(out, "img/MAPHead_0", arrays, head, ("layernorm",))
    return out


def put_attention(out, block, linear, heads):
    name = f"{block}/MultiHeadDotProductAttention_0"
    for part, (kernel, bias) in zip((*QKV, "out"), linear, strict=True):
        width = len(bias)
        if part == "out":
            out[f"{name}/out/kernel"] = kernel.T.reshape(heads, width // heads, width)
            out[f"{name}/out/bias"] = bias
        else:
            out[f"{name}/{part}/kernel"] = kernel.T.reshape(width, heads, -1)
            out[f"{name}/{part}/bias"] = bias.reshape(heads, -1)


def put_block(out, block, arrays, theirs, norms):
    for n, norm in enumerate(norms):
        out[f"{block}/LayerNorm_{n}/scale"] = arrays[f"{theirs}.{norm}.weight"]
        out[f"{block}/LayerNorm_{n}/bias"] = arrays[f"{theirs}.{norm}.bias"]
    for n, layer in enumerate(("fc1", "fc2")):
        dense = f"{block}/MlpBlock_0/Dense_{n}"
        out[f"{dense}/kernel"] = arrays[f"{theirs}.mlp.{layer}.weight"].T
        out[f"{dense}/bias"] = arrays[f"{theirs}.mlp.{layer}.bias"]


def test_features_of_transformers(golden_folder, tmp_path):
    file = load(golden_folder, "siglip_hf_tiny.npz")
    arrays = golden_arrays(parameters(file, "params/"), file.sizes)
    started = Started(write_npz(tmp_path / "a.npz", arrays), PAGE)
    assert_features(started, file, "out/")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.image.activation=gelu", "set model.image.activation=gelu_tanh"),
        ("model.text.norm_eps=1e-5", "set model.text.norm_eps=1e-06"),
        ("model.image.pool=mean", "set model.image.pool=map"),
        ("model.text.pool=end", "set model.text.pool=last"),
        ("model.text.causal=True", "set model.text.causal=False"),
        ("model.text.context_length=4", "set model.text.context_length=5"),
        ("model.text.vocab_size=12", "set model.text.vocab_size=11"),
        ("model.image.num_heads=2", "set model.image.num_heads=3"),
        ("model.image_mean=(0.4,0.4,0.4)", "set model.image_mean='.0.5,0.5,0.5.'"),
    ],
)
def test_another_config_is_refused(arrays, tmp_path, override, message):
    model = open_model(str(write_npz(tmp_path / "a.npz", arrays)))
    with pytest.raises(ClipinError, match=message):
        check_settings(config_of(model, PAGE, override), model)


def test_vit_alone(arrays, tmp_path):
    """The image tower of SigLIP, as a file of its own."""
    image = {k[4:]: v for k, v in arrays.items() if k.startswith("img/")}
    head = {"head/kernel": np.ones((WIDTH, 7), "f4"), "head/bias": np.ones(7, "f4")}
    path = write_npz(tmp_path / "vit.npz", image | head)
    model = open_model(str(path))
    assert model.config == ""
    width = "model.text.width=8", "model.text.num_heads=2"
    alone = Started(path, PAGE, *width, parts=("image",))
    both = Started(write_npz(tmp_path / "a.npz", arrays), PAGE)
    tower = {k: v for k, v in both.flat.items() if k.startswith("towers/image/")}
    assert len(tower) > 30
    for name, value in tower.items():
        np.testing.assert_array_equal(alone.flat[name], value)
    token = write_npz(tmp_path / "b.npz", image | {"cls": np.ones((1, 1, WIDTH), "f4")})
    with pytest.raises(ClipinError, match="no place for: cls"):
        Started(token, PAGE, *width, parts=("image",))


def test_vit_with_a_class_token(arrays, tmp_path):
    """The token has no position in a file, and the first one here."""
    image = {k[4:]: v for k, v in arrays.items() if k.startswith("img/")}
    image = {k: v for k, v in image.items() if not k.startswith("MAPHead")}
    image["cls"] = np.random.default_rng(2).normal(size=(1, 1, WIDTH)).astype("f4")
    path = write_npz(tmp_path / "vit.npz", image)
    width = "model.text.width=12", "model.text.num_heads=2"
    started = Started(path, PAGE, *width, parts=("image",))
    shape = (2, PATCH * SIDE, PATCH * SIDE, 3)
    images = np.random.default_rng(1).normal(size=shape).astype("f4")
    ours = started.features(images.transpose(0, 3, 1, 2), np.ones((2, LENGTH), int))[0]
    p = {f"img/{name}": value.astype("f8") for name, value in image.items()}
    expected = unit([slow_class_token(p, x) for x in images.astype("f8")])
    assert np.abs(ours - expected).max() < 1e-5
    table = started.model.table
    theirs = table.from_flat(
        {k: v for k, v in started.flat.items() if k.startswith("towers/image/")}
    )
    for name, value in image.items():
        np.testing.assert_array_equal(theirs[name], value)
