"""Every path that is faster or smaller takes the plain steps, in all configs.

Plain: a whole copy on each of eight devices, dense losses, towers on whole batches,
nothing computed again, attention without kernels, layers one by one. After each of two
steps all that a run keeps is compared: losses and other metrics, parameters, target,
statistics, and the optimizer's state, whose moments are the gradient.

In float64, where rounding is far below what a wrong factor, mask or mean changes. There
Adam, too, can be compared: where a gradient vanishes by symmetry it is rounding, 1e-17,
which is little beside Adam's `eps` of 1e-8; in float32 it is not. The kernel for
attention has no float64. It runs in float32, and with gradient descent.
"""

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from clipin_jax.config import load_config
from clipin_jax.config.class_arguments import arguments
from clipin_jax.core import sharding
from clipin_jax.core.parameter_paths import map_paths, paths_of
from clipin_jax.data.text.masking import NOT_PREDICTED
from clipin_jax.errors import ClipinError
from clipin_jax.models.attention import fused
from clipin_jax.runs.build import Experiment, build_experiment
from clipin_jax.runs.train_program import jit_train_step
from tests.support.every_config import every_spec

BATCH, LENGTH, VOCABULARY, MASK_ID = 32, 12, 64, 3
FIRST_STEP, STEPS = 3, 2  # of the schedules: warm-up and ramps have begun
PLAIN = (
    f"batch_size={BATCH}", f"model.text.context_length={LENGTH}",
    f"model.text.vocab_size={VOCABULARY}", "model.attention=plain",
    "sharding.preset=replicate", "sharding.min_mib=0",
)  # fmt: skip
SINGLE = (
    "model.dtype=float32", "model.param_dtype=float32", "optim.name=sgd",
    "optim.learning_rate=0.01", "optim.weight_decay=0.0",
)  # fmt: skip
DOUBLE = ("model.dtype=float64", "model.param_dtype=float64")
SLICES = ("mesh.dcn=2", "mesh.data=2", "mesh.fsdp=2")
# Micro-batches are refused: matching reads tokens of other pairs, or a tower has batch
# statistics.
NOT_CUT = re.compile(r"albef|blip|tower=RN50")
# Of metrics, then of states: relative to the largest entry, and the least of that.
# Batch norms of 32 rows scale the rounding of float32 up to 8e-6.
LIMITS = {DOUBLE: (1e-9, (1e-7, 1e-5)), SINGLE: (1e-5, (2e-5, 1e-2))}
DENSE = {"impl": "dense", "positions": 0}
CUT = "micro_batches=2"
SLOW = pytest.mark.slow
SCANNED = "model.scan_layers=True"


class Path(NamedTuple):
    """How a step is computed.

    Attributes:
      overrides: of the config.
      objectives: arguments for every objective that has them.
      shared: overrides of the plain step too.
      precision: `SINGLE` or `DOUBLE`.
      depth: layers of every stack.
    """

    overrides: tuple[str, ...] = ()
    objectives: dict[str, Any] = {}
    shared: tuple[str, ...] = ()
    precision: tuple[str, ...] = DOUBLE
    depth: int = 1


def remat(image: str, text: str) -> tuple[str, ...]:
    return f"model.remat.image={image}", f"model.remat.text={text}"


# Scanned layers drop other features than layers with names of their own.
SCAN = Path((SCANNED,), shared=("model.text.dropout=0.0",))
KERNEL = Path(("model.attention=fused",), precision=SINGLE)
TOGETHER = {
    "zero1, ring, micro-batches, full": Path(
        ("sharding.preset=zero1", CUT, *remat("full", "full")),
        dict(impl="ring", positions=5),
    ),
    "fsdp, chunked, micro-batches, dots": Path(
        (*SLICES, "sharding.preset=fsdp", CUT, *remat("dots", "dots_no_batch")),
        dict(impl="chunked", positions=LENGTH // 2),
    ),
    "fsdp+zero1, ring, dots_no_batch, scan, kernel": Path(
        (
            *SLICES, "sharding.preset=fsdp+zero1", *remat("dots_no_batch", "dots"),
            *SCAN.overrides, *KERNEL.overrides,
        ),
        dict(impl="ring"),
        SCAN.shared,
        KERNEL.precision,
    ),
}  # fmt: skip
ALONE = {
    "zero1": Path(("sharding.preset=zero1",)),
    "fsdp": Path((*SLICES, "sharding.preset=fsdp")),
    "fsdp+zero1": Path((*SLICES, "sharding.preset=fsdp+zero1")),
    "chunked": Path(objectives=dict(impl="chunked")),
    "ring": Path(objectives=dict(impl="ring")),
    "micro-batches": Path((CUT,)),
    "dots": Path(remat("dots", "dots")),
    "dots_no_batch": Path(remat("dots_no_batch", "dots_no_batch")),
    "full": Path(remat("full", "full")),
    "scan": SCAN._replace(depth=2),
    "kernel": KERNEL,
}


class Steps(NamedTuple):
    """The state after each step, and its metrics."""

    states: list[Any]
    metrics: list[Any]


@dataclasses.dataclass(frozen=True)
class Host:
    """A config. Its first state and plain steps are computed once for all paths."""

    spec: str
    known: dict[str, Any] = dataclasses.field(default_factory=dict)

    def assert_same(self, path: Path) -> None:
        plain = path._replace(overrides=(), objectives=DENSE)
        first = self._once("first", plain._replace(precision=DOUBLE), first_state)
        expected = self._once("steps", plain, lambda run: take_steps(run, first))
        with build(self._config(path)) as run:
            steps = take_steps(run, first)
        metrics, states = LIMITS[path.precision]
        # Terms of a loss may cancel each other, so metrics have the scale of 1.
        for ours, theirs in zip(steps.metrics, expected.metrics, strict=True):
            assert_close(ours, theirs, metrics, least=1.0)
        for ours, theirs in zip(steps.states, expected.states, strict=True):
            assert_close(ours, in_layout_of(ours, theirs), *states)

    def _once(self, name: str, path: Path, compute: Callable[[Experiment], Any]) -> Any:
        config = self._config(path)
        key = f"{name} {config.to_json()}"
        if key not in self.known:
            with build(config) as run:
                self.known[key] = compute(run)
        return self.known[key]

    def _config(self, path: Path) -> Any:
        known = load_config(self.spec)
        changes = [
            change
            for change in (*path.overrides, *path.shared)
            if not (change == CUT and NOT_CUT.search(self.spec))
            if "dropout" not in change or "dropout" in known.model.text
        ]
        changes += [
            f"objectives.{name}.{key}={value}"
            for name, objective in known.objectives.items()
            for key, value in path.objectives.items()
            if key in arguments(f"objectives.{name}", objective)
        ]
        changes += [
            f"model.{tower}.{key}={path.depth}"
            for tower in ("image", "text")
            for key in known.model[tower]
            if key.endswith("depth")
        ]
        return load_config(self.spec, (*PLAIN, *path.precision, *changes))


@contextlib.contextmanager
def build(config: Any) -> Iterator[Experiment]:
    double = config.model.dtype == "float64"
    with jax.enable_x64(double), fused.interpreted():
        run = build_experiment(config)
        with jax.set_mesh(run.mesh):
            yield run


def first_state(run: Experiment) -> Any:
    return jax.device_get(run.init_state())


def take_steps(run: Experiment, first: Any) -> Steps:
    """Takes steps from the parameters, target and statistics of another run."""
    like = dataclasses.replace(run.abstract_state, opt_state=None)
    start = in_layout_of(like, first)
    trained, _ = run.optimizer.split(start.params)
    opt_state = run.optimizer(run.hyper(0)).init(trained)
    start = dataclasses.replace(start, opt_state=opt_state)
    state, step = jax.device_put(start, run.state_sharding), jit_train_step(run)
    steps = Steps([], [])
    for k in range(STEPS):
        batch = sharding.put(make_batch(run.config, seed=k), run.mesh)
        state, metrics = step(state, batch, run.hyper(FIRST_STEP + k))
        steps.states.append(jax.device_get(state))
        steps.metrics.append(jax.device_get(metrics))
    return steps


def make_batch(config: Any, seed: int) -> dict[str, Any]:
    """Returns random pixels, and texts of several lengths with padding."""
    rng = np.random.default_rng(seed)

    def view() -> dict[str, Any]:
        shape = (BATCH, *config.model.image.image_size, 3)
        text = rng.integers(MASK_ID + 1, VOCABULARY - 1, (BATCH, LENGTH))
        last = rng.integers(LENGTH // 2, LENGTH, (BATCH, 1))
        place = np.arange(LENGTH)
        text = np.where(place < last, text, np.where(place == last, VOCABULARY - 1, 0))
        masked = (place < last) & (rng.random(text.shape) < 0.3)
        arrays = {
            "text": text,
            "image_id": np.arange(BATCH),
            "text_id": np.arange(BATCH),
            "masked_text": np.where(masked, MASK_ID, text),
            "masked_labels": np.where(masked, text, NOT_PREDICTED),
        }
        arrays = {name: array.astype(np.int32) for name, array in arrays.items()}
        return {"image": rng.integers(0, 256, shape, dtype=np.uint8), **arrays}

    return {name: view() for name in ("view1", "view2")[: config.data.views]}


def in_layout_of(like: Any, state: Any) -> Any:
    """Returns a state with the dtypes of another, and its stacks of layers."""
    leaves = dict(zip(paths_of(state), jax.tree.leaves(state), strict=True))

    def read(path: str, leaf: Any) -> Any:
        if path in leaves:
            return leaves[path].astype(leaf.dtype)
        one = re.compile(re.escape(path).replace("/blocks/", r"/blocks_(\d+)/"))
        layers = {int(m[1]): leaves[p] for p in leaves if (m := one.fullmatch(p))}
        return np.stack([layers[i] for i in range(len(layers))]).astype(leaf.dtype)

    return map_paths(read, like)


def assert_close(ours: Any, expected: Any, tolerance: float, least: float) -> None:
    """Compares trees, relative to the largest entry of a leaf, or `least` if below."""
    paths = paths_of(expected)
    assert paths == paths_of(ours)
    leaves = zip(paths, jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True)
    for path, x, y in leaves:
        scale = max(least, np.max(np.abs(y), initial=0.0))
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * scale, err_msg=path)


def all_slow_but(quick: Sequence[str], names: Iterable[str]) -> list[Any]:
    return [n if n in quick else pytest.param(n, marks=SLOW) for n in names]


@pytest.fixture(scope="module", params=all_slow_but(["clip:runlocal"], every_spec()))
def host(request) -> Iterator[Host]:
    yield Host(request.param)
    jax.clear_caches()


@pytest.mark.parametrize("path", all_slow_but([*TOGETHER][:1], TOGETHER))
def test_paths_together(host, path):
    host.assert_same(TOGETHER[path])


@SLOW
@pytest.mark.parametrize("path", ALONE)
@pytest.mark.parametrize(
    "host", ["clip:runlocal", "clip:runlocal,clipin"], indirect=True, scope="module"
)
def test_each_path_alone(host, path):
    host.assert_same(ALONE[path])


@SLOW
@pytest.mark.parametrize("spec", list(filter(NOT_CUT.search, every_spec())))
def test_what_cannot_be_cut_is_refused_in_one_line(spec):
    with pytest.raises(ClipinError, match="micro_batches is 2, but .*: set") as error:
        build_experiment(load_config(spec, (*PLAIN, CUT)))
    assert "\n" not in str(error.value)
