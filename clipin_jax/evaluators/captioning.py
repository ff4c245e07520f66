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
        context_length = encoder.tokenizer.context_length
        self._decoding = make_decoding(decoding or {}, context_length)
        self._write = encoder.captioner(self._decoding)
        self._batch_size = batch_size
        self._texts = [[] for _ in range(len(source))]
        for caption, image in zip(captions, image_of_caption, strict=True):
            self._texts[image].append(caption)
        self.source = source
        self.image_size = encoder.image_size
        self.interpolation = encoder.interpolation
        self.resize = encoder.resize
        self.captions: list[str] = []
        self.written: dict[str, Any] = {}

    def run(self, state: ModelState) -> Iterator[tuple[str, float]]:
        """Yields (metric, value).

        "chance/METRIC" scores the caption of the next image: well written, but about
        another image. `distinct` is the number of different captions over the number
        of captions. Afterwards `captions` has all captions, in the order of the source,
        and `written` some of them with their references.
        """
        self.captions = self._write(state, self.source, self._batch_size)
        self.written = self._examples()
        references = [[tokenize(text) for text in texts] for texts in self._texts]
        words = [tokenize(caption) for caption in self.captions]
        yield from _scores(words, references).items()
        if len(words) > 1:
            of_next_image = [*words[1:], words[0]]
            for name, value in _scores(of_next_image, references).items():
                yield f"chance/{name}", value
        yield "distinct", len(set(self.captions)) / len(self.captions)

    def _examples(self, number: int = 12) -> dict[str, Any]:
        """Returns the captions of images at equal distances, not chosen by a score."""
        count = len(self.captions)
        chosen = np.unique(np.linspace(0, count - 1, number).round().astype(int))
        return {
            "decoding": self._decoding.used(),
            "captions": [
                {
                    "image": int(i),
                    "caption": self.captions[i],
                    "references": self._texts[i],
                }
                for i in chosen
            ],
        }


def _scores(
    captions: Sequence[Words], references: Sequence[Sequence[Words]]
) -> dict[str, float]:
    return {
        "bleu_4": bleu(captions, references)[-1],
        "rouge_l": float(np.mean(rouge_l(captions, references))),
        "cider_d": float(np.mean(cider_d(captions, references))),
    }
