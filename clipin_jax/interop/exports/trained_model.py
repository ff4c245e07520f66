"""What is handed on: a trained model, and the facts that its card states."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from clipin_jax.config import with_defaults
from clipin_jax.core.lora import merge_lora
from clipin_jax.core.parameter_paths import flatten
from clipin_jax.data.image.views import SHORTEST, SQUASH
from clipin_jax.data.text import caption_tokenizer
from clipin_jax.data.text.tokenizer import Tokenizer
from clipin_jax.interop.convert import SCANNED, unscanned


class Score(NamedTuple):
    """A score of an evaluation, as text.

    Attributes:
      name: such as `retrieval/text_to_image_R@1`.
      value: such as `28.1%`.
      chance: that of a random guess; "" if unknown.
    """

    name: str
    value: str
    chance: str


class Facts(NamedTuple):
    """What a model card states that neither config nor weights do.

    Attributes:
      name: of the run.
      step: of the checkpoint.
      scores: of that step.
      command: that wrote the folder.
      license: of the weights, by an identifier of the Hugging Face hub.
    """

    name: str
    step: int
    scores: Sequence[Score]
    command: str
    license: str


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A trained model.

    Attributes:
      config: of its run, with the defaults of all classes.
      variables: of its online branch: collection -> nested dict of numpy's arrays.
      facts: for its card.
      with_tokenizer: whether the files of the tokenizer are written too.
    """

    config: ConfigDict
    variables: Mapping[str, Any]
    facts: Facts
    with_tokenizer: bool = True

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the config. Raises ClipinError, as for a missing file."""
        return caption_tokenizer(self.config.data)

    @property
    def image_size(self) -> str:
        """How evaluation brings images to their size, for a sentence."""
        data = self.config.data
        height, width = data.image_size
        size = f"{height}x{width} pixels ({data.augment.interpolation})"
        if data.resize == SQUASH:
            return f"scaled to {size}, whatever their shape"
        return f"scaled and cropped at the centre to {size}"

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Path -> array of parameters and batch statistics; layers one by one."""
        flat: dict[str, np.ndarray] = {}
        for collection in self.variables:
            flat |= self.collection(collection)
        return flat

    def collection(self, name: str) -> dict[str, np.ndarray]:
        """Returns path -> array of a collection of `variables`; layers one by one."""
        flat: dict[str, np.ndarray] = {}
        for path, value in flatten(self.variables[name]).items():
            layers = value if SCANNED in path else [value]
            flat |= zip(unscanned(path, value), layers, strict=True)
        return flat


def trained_model(
    config: ConfigDict, variables: Any, facts: Facts, *, with_tokenizer: bool = True
) -> TrainedModel:
    """Returns the model that all formats start from, with low-rank factors merged.

    Args:
      config: of the run.
      variables: of the online branch, such as `TrainState.variables`.
      facts: for the card.
      with_tokenizer: see `TrainedModel`.
    """
    config = with_defaults(config)
    for factors in config.model.get("lora", {}).values():
        factors.rank = 0
    config.data.resize = config.data.get("resize", SHORTEST)  # of a run from before
    merged = {**variables, "params": merge_lora(variables["params"])}
    arrays = jax.tree.map(np.asarray, merged)
    return TrainedModel(config, arrays, facts, with_tokenizer)
