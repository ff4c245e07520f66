"""Models of golden files: their parameters as other libraries write them, and ours."""

import functools
import re

import jax
import numpy as np

from clipin_jax.config import load_config
from clipin_jax.core.parameter_paths import flatten
from clipin_jax.interop.initial_weights import start_from
from clipin_jax.interop.open_model import open_model
from clipin_jax.runs.build import build_experiment
from tests.parity.golden_files import GoldenFile
from tests.support.torch_files import Global, Instance, tensor, write_torch


def parameters(file: GoldenFile, *sections: str) -> dict[str, np.ndarray]:
    """Returns the arrays of sections: numbers as float32, which they are exactly."""
    arrays = {}
    for section in sections:
        for name, value in file.section(section).items():
            is_float = value.dtype == np.float64
            arrays[name] = value.astype(np.float32) if is_float else value
    return arrays


def write_state_dict(path, arrays, **outside):
    """Writes a checkpoint of PyTorch; `outside` is beside the state dict."""
    tensors = {name: tensor(value) for name, value in arrays.items()}
    return write_torch(path, {"model": tensors, **outside} if outside else tensors)


def write_archive(path, arrays):
    """Writes modules inside of modules, as TorchScript does."""

    def module(inside):
        state = {}
        for name, value in inside.items():
            first, _, rest = name.partition(".")
            if rest:
                state.setdefault(first, {})[rest] = value
            else:
                state[first] = tensor(value)
        state = {k: module(v) if isinstance(v, dict) else v for k, v in state.items()}
        return Instance(Global("__torch__.model", "Module"), state)

    return write_torch(path, module(arrays))


def config_of(model, page, *overrides):
    """Returns a page with all that the files of a model state, then `overrides`."""
    keys = dict(model.assumed) | dict(model.settings)
    shown = [f"{key}={value!r}" for key, value in keys.items()]
    return load_config(page, (*shown, *overrides))


def zeros(abstract):
    """Returns a state of zeros: whatever is not read shows."""
    return jax.tree.map(
        lambda leaf: jax.device_put(np.zeros(leaf.shape, leaf.dtype), leaf.sharding),
        abstract,
    )


class Started:
    """A run that starts from a model.

    Attributes:
      flat: path -> array, of all parameters and statistics.
      lines: of the report.
    """

    def __init__(self, source, page, *overrides, **options):
        self.model = open_model(str(source))
        config = config_of(self.model, page, *overrides)
        self.experiment, self.lines = build_experiment(config), []
        with jax.set_mesh(self.experiment.mesh):
            self.state = start_from(
                zeros(self.experiment.abstract_state),
                self.model,
                config,
                report=self.lines.append,
                **options,
            )
        statistics = self.state.collections.get("batch_stats", {})
        self.flat = flatten(self.state.params) | flatten(statistics)

    def features(self, images, text):
        """Returns image and text features; images as PyTorch has them."""
        image = np.transpose(images, (0, 2, 3, 1)).astype(np.float32)
        view = {"image": image, "text": text.astype(np.int32)}
        encode = functools.partial(self.experiment.learner.apply, method="encode")
        with jax.set_mesh(self.experiment.mesh):
            out = jax.jit(encode)(self.state.variables, view)
        return [np.asarray(out[kind]["embedding"]) for kind in ("image", "text")]


def assert_features(started, file, expected):
    """Compares features of a golden file's inputs within 1e-5."""
    ours = started.features(file["inputs/images"], file["inputs/tokens"])
    for got, kind in zip(ours, ("image", "text"), strict=True):
        assert np.abs(got - file[f"{expected}{kind}_features"]).max() < 1e-5, kind


def renamed(arrays, *pairs):
    """Returns arrays whose names have patterns replaced, the first that matches."""
    names = {}
    for name, value in arrays.items():
        for pattern, new in pairs:
            other, count = re.subn(pattern, new, name)
            if count:
                name = other
                break
        names[name] = value
    return names
