"""What a model says about images, against what people say about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from clipin_jax.evaluators.base import Figure
from clipin_jax.evaluators.metrics.caption_scores import (
    bleu,
    cider_d,
    rouge_l,
    tokenize,
)
from clipin_jax.evaluators.retrieval import read_captions
from clipin_jax.inference.encoder import Encoder
from clipin_jax.inference.generation import make_decoding


class Captioning:
    """BLEU-4, ROUGE-L and CIDEr-D of one caption an image; see `caption_scores`."""

    task = "captioning"
    figures = {
        "bleu_4": Figure("{:.3f}"),
        "rouge_l": Figure("{:.3f}"),
        "cider_d": Figure("{:.3f}", headline=True),
        "distinct": Figure("{:.1%}"),
    }
    benchmark_keys = {"Bleu_4": "bleu_4", "ROUGE_L": "rouge_l", "CIDEr": "cider_d"}

    def __init__(
        self,
        encode: Encoder,
        *,
        source: Any,
        batch_size: int = 64,
        max_captions: int = 0,
        decoding: Mapping[str, Any] | None = None,
    ) -> None:
        """Reads the references, so that what is wrong with them shows before training.

        max_captions: how many references an image has at most, its first ones; 0 is
        all. decoding: the options of `generate.Decoding`. Raises ClipinError for an
        image without a caption, options that do not exist, or a model that cannot
        write.
        """
        captions, owner = read_captions(source, max_captions)
        self._references: list[list[list[str]]] = [[] for _ in range(len(source))]
        for caption, image in zip(captions, owner, strict=True):
            self._references[image].append(tokenize(caption))
        self._write = encode.captioner(make_decoding(decoding or {}))
        self._batch_size = batch_size
        self.source = source
        self.captions: list[str] = []

    def run(self, state: Any) -> Iterator[tuple[str, float]]:
        """Yields (name, value); `chance/<name>` is of the next image's captions.

        That is the score of a model that writes well, but not about this image.
        `distinct` is the share of captions among the written ones that are different.
        Afterwards `captions` holds what was written, in the order of the source.
        """
        self.captions = self._write(state.variables, self.source, self._batch_size)
        words = [tokenize(caption) for caption in self.captions]
        yield from _scores(words, self._references).items()
        if len(words) > 1:
            others = [*words[1:], words[0]]
            for name, value in _scores(others, self._references).items():
                yield f"chance/{name}", value
        yield "distinct", len(set(self.captions)) / len(self.captions)


def _scores(
    captions: list[list[str]], references: list[list[list[str]]]
) -> dict[str, float]:
    return {
        "bleu_4": bleu(captions, references)[-1],
        "rouge_l": float(np.mean(rouge_l(captions, references))),
        "cider_d": float(np.mean(cider_d(captions, references))),
    }
