"""Captioning: compares captions that the model writes with reference captions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from clipin_jax.data.source import Source
from clipin_jax.evaluators.base import Figure
from clipin_jax.evaluators.datasets.annotations import read_captions
from clipin_jax.evaluators.metrics.caption_scores import (
    Words,
    bleu,
    cider_d,
    rouge_l,
    tokenize,
)
from clipin_jax.inference.encode_fns import ModelState
from clipin_jax.inference.encoder import Encoder
from clipin_jax.inference.generation import make_decoding


class Captioning:
    """BLEU-4, ROUGE-L and CIDEr-D of one caption per image; see `caption_scores`."""

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
        encoder: Encoder,
        *,
        source: Source,
        batch_size: int = 64,
        max_captions: int = 0,
        decoding: Mapping[str, Any] | None = None,
    ) -> None:
        """Reads the references.

        Args:
          encoder: encodes images with the model.
          source: images with captions.
          batch_size: images captioned at a time.
          max_captions: references to read per image, the first ones; 0 for all.
          decoding: fields of `generation.Decoding`.

        Raises:
          ClipinError: an image without a caption, an option that does not exist, or a
            model that cannot write.
        """
        captions, image_of_caption = read_captions(source, max_captions)
        self._references: list[list[list[str]]] = [[] for _ in range(len(source))]
        for caption, image in zip(captions, image_of_caption, strict=True):
            self._references[image].append(tokenize(caption))
        context_length = encoder.tokenizer.context_length
        self._write = encoder.captioner(make_decoding(decoding or {}, context_length))
        self._batch_size = batch_size
        self.source = source
        self.captions: list[str] = []

    def run(self, state: ModelState) -> Iterator[tuple[str, float]]:
        """Yields (metric, value).

        "chance/METRIC" scores the caption of the next image: well written, but about
        another image. `distinct` is the number of different captions over the number
        of captions. Afterwards `captions` has all captions, in the order of the source.
        """
        self.captions = self._write(state, self.source, self._batch_size)
        words = [tokenize(caption) for caption in self.captions]
        yield from _scores(words, self._references).items()
        if len(words) > 1:
            of_next_image = [*words[1:], words[0]]
            for name, value in _scores(of_next_image, self._references).items():
                yield f"chance/{name}", value
        yield "distinct", len(set(self.captions)) / len(self.captions)


def _scores(
    captions: Sequence[Words], references: Sequence[Sequence[Words]]
) -> dict[str, float]:
    return {
        "bleu_4": bleu(captions, references)[-1],
        "rouge_l": float(np.mean(rouge_l(captions, references))),
        "cider_d": float(np.mean(cider_d(captions, references))),
    }
