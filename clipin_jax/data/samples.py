"""One record to one sample.

For training: decode once, look twice, choose captions. For evaluation: one view.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from clipin_jax.data.images import decode
from clipin_jax.data.masking import mask_tokens
from clipin_jax.data.source import BadRecord, Source
from clipin_jax.data.tokenizer import Tokenizer
from clipin_jax.data.views import apply_view, evaluation_view, prepare, sample_view
from clipin_jax.errors import ClipinError

_ATTEMPTS = 100  # unreadable records in a row after which no next one is tried
_MASKS = 1  # names the stream of masks, beside that of views and captions


class SampleMaker:
    """(position, index) -> a sample; all that is random follows from the position.

    The first view and its caption do not depend on whether there is a second one.
    """

    def __init__(
        self, source: Source, tokenizer: Tokenizer, data: ConfigDict, seed: int
    ):
        self._source, self._tokenizer, self._seed = source, tokenizer, seed
        self._size = tuple(data.image_size)
        self._views, self._second_text = data.views, data.second_text
        self._masking: dict[str, Any] = {}
        if data.mask_probability:
            self._masking = dict(
                probability=data.mask_probability,
                mask_id=tokenizer.mask_id,
                vocab_size=tokenizer.vocab_size,
                never_masked=tokenizer.never_masked,
            )
        # A plain dict: looked up a dozen times a sample, and sent to workers.
        self._augment = data.augment.to_dict()

    def __call__(self, place: tuple[int, int]) -> dict[str, Any]:
        """A sample as `TrainBatches` documents it, without the batch axis.

        Beside it `bad`, how many records could not be decoded on the way,
        `bad_index`, the first of them (-1: none), and `cut`, the share of its captions
        that were too long. Where no record could be found, `index` is -1 and the
        picture black.
        """
        position, wanted = place
        index, bad, image, captions = self._first_readable(wanted)
        image = prepare(image, self._augment)
        rng = np.random.default_rng((self._seed, position))
        chosen = int(rng.integers(len(captions)))
        said = [captions[chosen]]
        sample: dict[str, Any] = {"view1": self._view(rng, position, image, said[0])}
        if self._views == 2:
            said.append(captions[self._second(rng, chosen, len(captions))])
            sample["view2"] = self._view(rng, position, image, said[1])
        return sample | {
            "index": np.int64(index),
            "bad": np.int64(bad),
            "bad_index": np.int64(wanted if bad else -1),
            "cut": np.mean([self._tokenizer.is_cut(text) for text in said]),
        }

    def _first_readable(self, wanted: int) -> tuple[int, int, np.ndarray, tuple]:
        attempts = min(_ATTEMPTS, len(self._source))
        for bad in range(attempts):
            index = (wanted + bad) % len(self._source)
            try:
                record = self._source[index]
                return index, bad, decode(record["image"]), record["captions"]
            except (BadRecord, OSError):
                continue
        return -1, attempts, np.zeros((*self._size, 3), np.uint8), ("",)

    def _second(self, rng: np.random.Generator, chosen: int, count: int) -> int:
        if self._second_text == "same" or count == 1:
            return chosen
        return (chosen + int(rng.integers(1, count))) % count

    def _view(
        self,
        rng: np.random.Generator,
        position: int,
        image: np.ndarray,
        caption: str,
    ) -> dict[str, np.ndarray]:
        height, width = image.shape[:2]
        drawn = sample_view(rng, height, width, self._augment)
        how = self._augment["interpolation"]
        ids = self._tokenizer([caption])[0]
        view = {"image": apply_view(image, drawn, self._size, how), "text": ids}
        if self._masking:
            # Drawn anew: a caption that both views have is masked alike, so that what
            # the target says of one holds for the other.
            masks = np.random.default_rng((self._seed, position, _MASKS))
            view |= mask_tokens(ids, masks, **self._masking)
        return view


class EvalSampleMaker:
    """Index -> the evaluation view of that record, or padding behind the last."""

    def __init__(self, source: Source, size: tuple[int, int], interpolation: str):
        self._source, self._size, self._interpolation = source, size, interpolation

    def __call__(self, index: int) -> dict[str, Any]:
        """A sample as `eval_batches` documents it; raises ClipinError if unreadable."""
        if index >= len(self._source):
            blank = np.zeros((*self._size, 3), np.uint8)
            return {"image": blank, "mask": False, "index": np.int64(0)}
        try:
            image = decode(self._source[index]["image"])
        except (BadRecord, OSError) as error:
            raise ClipinError(
                f"record {index}, {self._source.describe(index)}, cannot be decoded: "
                f"{error}. Evaluation leaves no sample out: mend or remove the file"
            ) from error
        view = evaluation_view(image, self._size, self._interpolation)
        return {"image": view, "mask": True, "index": np.int64(index)}


def why_bad(source: Source, index: int) -> str:
    """Reads a record that could not be decoded once more, to name file and reason."""
    try:
        decode(source[index]["image"])
    except (BadRecord, OSError) as error:
        return f"record {index}, {source.describe(index)}: {error}"
    return f"record {index}, {source.describe(index)}: it is readable by now"
