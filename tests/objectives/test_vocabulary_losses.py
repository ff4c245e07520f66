"""Losses over a vocabulary, a few positions at a time: those of all logits."""

import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipin_jax.core import sharding
from clipin_jax.models.layers import LogitFactors
from clipin_jax.models.mixture_bert import MixtureBert
from clipin_jax.models.split_bert import SplitBert
from clipin_jax.models.split_decoder import SplitDecoder
from clipin_jax.objectives.blockwise_losses import vocabulary
from clipin_jax.objectives.captioning import Captioning
from clipin_jax.objectives.masked_lm import MaskedLM
from tests.support.objective_inputs import objective_inputs

B, L, D, V = 16, 7, 6, 12
HOSTS = {
    "captioning": Captioning(label_smoothing=0.0),
    "smooth captioning": Captioning(label_smoothing=0.1),
    "masked_lm": MaskedLM(target_view="second"),
}
HYPER = {"weight": 1.0, "distillation": 0.4}


class WholeTower:
    """Gives logits alone, as a tower of another package may."""

    name = "text"

    def __init__(self, factors):
        self.factors = LogitFactors(*factors)

    def decode(self, text, text_tokens, image_tokens, train):
        return self.factors.logits()

    def predict_masked(self, text, image_tokens, train):
        return self.factors.logits()


class FactoredTower(WholeTower):
    """Gives the factors of the same logits."""

    def decode_factors(self, text, text_tokens, image_tokens, train):
        return self.factors

    def predict_masked_factors(self, text, image_tokens, train):
        return self.factors


def make_factors(seed, dtype=np.float32, batch=B):
    rng = np.random.default_rng(seed)
    shapes = (batch, L, D), (D, V), (V,)
    return tuple(rng.normal(size=shape).astype(dtype) for shape in shapes)


def make_views(batch=B):
    """Texts of which some are padded, some masked, and some masked differently."""
    rng = np.random.default_rng(2)
    text = rng.integers(1, V, (batch, L)).astype(np.int32)
    text[::3, 4:] = 0
    masked = rng.random((batch, L)) < 0.4
    view = {
        "text": text,
        "masked_text": np.where(masked, V - 1, text),
        "masked_labels": np.where(masked, text, -100),
    }
    other = dict(view, masked_text=view["masked_text"].copy())
    other["masked_text"][::2, 0] = V - 2
    return view, other


def make_mesh(count):
    dcn, fsdp = (2, 2) if count == 8 else (1, 2 if count > 2 else 1)  # all split it
    return sharding.make_mesh(-1, fsdp, jax.devices()[:count], dcn=dcn)


def make_loss(name, tower, positions):
    """Returns a function of the factors of both networks, and of both views."""
    host = HOSTS[name].clone(positions=positions)

    def loss(online, target, view, other):
        features = {m: {"tokens": None} for m in ("image", "text")}
        call = objective_inputs(
            features, towers=SimpleNamespace(text=tower(online)), view=view,
            other_view=other, hyper=HYPER,
        )  # fmt: skip
        if name == "masked_lm":
            towers = SimpleNamespace(text=tower(target))
            targets = host.apply({}, towers, other, features, True, method="targets")
            call = call._replace(targets=targets)
        value, metrics = host.apply({}, call)
        return 2 * value, metrics  # so that its gradient is not one

    return loss


def lowered(name, tower, positions, *, count=1, dtype=np.float32, batch=B):
    """Returns the program of a loss and its gradient, and its arguments."""
    step = jax.value_and_grad(make_loss(name, tower, positions), 0, has_aux=True)
    placed = []
    mesh = make_mesh(count)
    for seed in range(2):
        states, *rest = make_factors(seed, dtype, batch)
        placed.append((sharding.put(states, mesh), *rest))
    placed += sharding.put(make_views(batch), mesh)
    return jax.jit(step).lower(*placed), placed


def run(name, tower, positions, count=1, dtype=np.float32):
    with jax.set_mesh(make_mesh(count)):
        program, given = lowered(name, tower, positions, count=count, dtype=dtype)
        return jax.device_get(program.compile()(*given))


def assert_equal(one, other, tolerance):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            a, b, rtol=tolerance, atol=tolerance
        ),
        one,
        other,
    )  # fmt: skip


@pytest.fixture(scope="module", params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield np.dtype(request.param)


@pytest.mark.parametrize("name", HOSTS)
def test_values_and_gradients_are_the_dense_ones(dtype, name):
    expected = run(name, WholeTower, 0, dtype=dtype)
    (value, metrics), gradient = expected
    assert value.dtype == dtype and metrics["accuracy"] > 0
    assert all(np.any(x) for x in gradient)
    tolerance = 1e-5 if dtype == np.float32 else 1e-11
    for positions, count in [(3, 1), (1, 8), (3, 8)]:
        found = run(name, FactoredTower, positions, count, dtype)
        assert_equal(found, expected, tolerance)


def test_the_gradient_of_the_target_is_zero():
    loss = make_loss("masked_lm", FactoredTower, 2)
    step = jax.grad(loss, 1, has_aux=True)
    gradient, _ = step(make_factors(0), make_factors(1), *make_views())
    assert not any(np.any(x) for x in gradient)


def shapes(program):
    """Returns the shapes of all floats in the text of a compiled program."""
    found = re.findall(
        r"\b(?:f\d+|bf16)\[([\d,]+)\]", program.compile().as_text() or ""
    )
    return {tuple(map(int, shape.split(","))) for shape in found}


@pytest.mark.parametrize("name", HOSTS)
def test_a_device_never_holds_all_logits_of_its_texts(name):
    whole = B // 8 * L * V

    def largest(tower, positions):
        with jax.set_mesh(make_mesh(8)):
            program, _ = lowered(name, tower, positions, count=8)
        found = shapes(program)
        return max(np.prod(shape) for shape in found if V in shape), found

    size, found = largest(WholeTower, 0)
    assert size >= whole and (B // 8, L, V) in found
    size, found = largest(FactoredTower, 1)
    assert size <= max(B // 8, D) * V and (B // 8, L, V) not in found


def test_a_gradient_of_the_table_is_added_over_devices_once():
    with jax.set_mesh(make_mesh(8)):
        program, _ = lowered("captioning", FactoredTower, 1, count=8)
    text = program.compile().as_text() or ""
    loops = re.findall(r"body=%?([\w.\-]+)", text)
    assert loops and "all-reduce" in text
    for loop in loops:
        body = re.search(rf"^%?{re.escape(loop)} .*?^}}", text, re.M | re.S)
        assert body and "all-reduce" not in body[0]


def test_all_positions_at_once_while_their_logits_are_small(monkeypatch):
    def sizes(held, positions=0, batch=B):
        seen = []

        def function(logits, labels):
            seen.append(logits.shape)
            return labels

        monkeypatch.setattr(vocabulary, "_HELD_BYTES", held)
        tower = FactoredTower(make_factors(0, batch=batch))
        logits = vocabulary.read_logits(tower, "decode", [None] * 4, positions)
        labels = jnp.arange(batch * L).reshape(batch, L)
        found = vocabulary.map_positions(function, [logits], [labels], positions)
        np.testing.assert_array_equal(found, labels)
        assert len(set(seen)) == 1
        return seen[0]

    position = B * V * 4
    assert sizes(L * position) == (B, L, V)
    assert sizes(L * position - 1) == (4, B, V)  # two chunks of equal size
    assert sizes(3 * position) == (3, B, V)
    assert sizes(1) == (1, B, V)
    assert sizes(1, positions=L) == sizes(1, positions=100) == (B, L, V)
    with jax.set_mesh(make_mesh(8)):
        assert sizes(3 * position // 8) == (3, B // 8, V)
        assert sizes(1, batch=15) == (1, 15, V)  # the devices do not split it


@pytest.mark.parametrize("name", HOSTS)
def test_small_factored_and_whole_logits_have_one_program(name):
    def operations(tower):
        """Without names, which depend on the order of independent lines."""
        program = lowered(name, tower, 0)[0].as_text()
        return sorted(re.sub(r"%\w+", "", program).splitlines())

    assert operations(FactoredTower) == operations(WholeTower)


SIZES = dict(width=16, num_heads=2, context_length=L, vocab_size=V, mlp_ratio=2)
TOWERS = {
    "split_decoder": (SplitDecoder, dict(decoder_depth=1), "decode"),
    "mixture_bert": (MixtureBert, {}, "decode"),
    "split_bert": (SplitBert, dict(fusion_depth=1), "predict_masked"),
}


@pytest.mark.parametrize("name", TOWERS)
@pytest.mark.parametrize("half", [False, True])
def test_factors_of_our_towers_are_those_of_their_logits(name, half):
    make, options, method = TOWERS[name]
    dtype = jnp.bfloat16 if half else jnp.float32
    tower = make(depth=1, **SIZES, **options, dtype=dtype)
    text = make_views(2)[0]["text"]
    image = jnp.asarray(make_factors(0, batch=2)[0], dtype)

    def both(tower):
        tokens = [tower(text)["tokens"]] if method == "decode" else []
        given = (text, *tokens, image)
        whole, parts = (vocabulary.read_logits(tower, method, given, n) for n in (0, 1))
        np.testing.assert_array_equal(whole, getattr(tower, method)(*given))
        return whole, parts

    (logits, factors), _ = tower.init_with_output(jax.random.key(0), method=both)
    assert isinstance(factors, LogitFactors)
    assert factors.table.dtype == jnp.float32  # also in half precision
    assert logits.dtype == factors.states.dtype == dtype
    np.testing.assert_array_equal(logits, factors.logits())


def test_the_gradient_of_a_table_in_half_precision_is_summed_in_float32():
    states = jnp.ones((8, 300, 1), jnp.bfloat16)

    def loss(table):
        factors = LogitFactors(states, table)
        logits = vocabulary.map_positions(lambda x, _: x[..., 0], [factors], [ids], 1)
        return logits.astype(jnp.float32).sum()

    ids = jnp.zeros((8, 300), jnp.int32)
    gradient = jax.jit(jax.grad(loss))(jnp.ones((1, 2), jnp.bfloat16))
    # Steps of 8 leave a sum in bfloat16 at 2048.
    np.testing.assert_array_equal(gradient.astype(jnp.float32), [[2400, 0]])
