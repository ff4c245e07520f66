"""Classes of another package, each with one mistake."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from clipin_jax.data.text.tokenizer import BaseTokenizer
from clipin_jax.evaluators.base import Figure
from clipin_jax.objectives.base import Inputs, ObjectiveModule


class NoModule:
    scalars = {"weight": 1.0}
    scalar = None


class NoWeight(ObjectiveModule):
    scalars = {"margin": 1.0}


class NoPair(ObjectiveModule):
    def __call__(self, inputs: Inputs) -> Any:
        return jnp.zeros(())


class NoScalarLoss(ObjectiveModule):
    def __call__(self, inputs: Inputs) -> Any:
        return inputs.features["image"]["embedding"], {}


class NoScalarMetric(ObjectiveModule):
    def __call__(self, inputs: Inputs) -> Any:
        return jnp.zeros(()), {"histogram": jnp.zeros(3)}


class NoSuchFeature(ObjectiveModule):
    def __call__(self, inputs: Inputs) -> Any:
        return inputs.features["sound"]["embedding"].sum(), {}


class NoFields(nn.Module):
    def __call__(self, image: Any, train: bool = False) -> Any:
        return {}


class Tower(nn.Module):
    scan_layers: bool = False
    remat: str = "none"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32


class NoPooled(Tower):
    def __call__(self, image: Any, train: bool = False) -> Any:
        return {"tokens": image.reshape(image.shape[0], 4, -1)}


class WrongReshape(Tower):
    def __call__(self, image: Any, train: bool = False) -> Any:
        return {"tokens": image.reshape(3, 7), "pooled": image}


class FewWords(Tower):
    vocab_size: int = 300

    @nn.compact
    def __call__(self, text: Any, train: bool = False) -> Any:
        tokens = nn.Embed(self.vocab_size, 8)(text)
        return {"tokens": tokens, "pooled": tokens.mean(axis=1)}


class Grey:
    classes = ()
    fingerprint = "grey"

    def __init__(self, count: int = 64):
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Any:
        image = np.full((8, 8, 3), index, np.uint8)
        return {"image": image, **self.annotations(index)}

    def annotations(self, index: int) -> Any:
        return {"captions": ("grey",)}

    def describe(self, index: int) -> str:
        return "grey"


class NoConnection(Grey):
    def __init__(self):
        raise RuntimeError("no connection")


class NoColumn(Grey):
    def annotations(self, index: int) -> Any:
        raise KeyError("caption")


class NoColumnLater(Grey):
    def annotations(self, index: int) -> Any:
        if index % 4 == 3:
            raise KeyError("caption")
        return super().annotations(index)


class OneText(Grey):
    def annotations(self, index: int) -> Any:
        return {"captions": "grey"}


class NoDescription:
    classes = ()
    fingerprint = "none"
    __len__ = Grey.__len__
    __getitem__ = Grey.__getitem__

    def __init__(self):
        self._count = 64


class NoArguments:
    pass


class Bytes(BaseTokenizer):
    def __init__(self, context_length: int, offset: int = 3, **captions: Any):
        super().__init__(context_length, **captions)
        self.vocab_size, self.start, self.end = 256 + offset, 1, 2

    def encode(self, text: str) -> list[int]:
        return [300]

    def decode(self, ids: Any) -> str:
        return ""


class NoGrey(Bytes):
    def encode(self, text: str) -> list[int]:
        if text == "grey":
            raise ValueError(text)
        return [3]


class NoVocabulary(BaseTokenizer):
    def __init__(self, context_length: int, **captions: Any):
        super().__init__(context_length, **captions)

    encode, decode = Bytes.encode, Bytes.decode


class Evaluator:
    task = "none"
    figures: Any = {}

    def __init__(self, encoder: Any, batch_size: int = 4):
        pass

    def run(self, state: Any) -> Any:
        return []


class NoData(Evaluator):
    def __init__(self, encoder: Any):
        raise ValueError("no data")


class NoEncoder(Evaluator):
    def __init__(self):
        pass


class WrongFormat(Evaluator):
    figures = {"norm": Figure("{:.3q}")}


class NoFigures(Evaluator):
    figures = ["norm"]


class NoFinish:
    init = log = print


def no_optimizer(decay: Any) -> Any:
    return 3


def no_number(step: int) -> Any:
    return None


def end_of_data(step: int) -> float:
    if step:
        raise ValueError("no more numbers")
    return 0.1
