"""One record to one sample.

For training: decode once, look twice, choose captions. For evaluation: one view.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from clipin_jax.data.image import views
from clipin_jax.data.image.decode import OpenImage, decode, open_image
from clipin_jax.data.source import BadRecord, Record, Source
from clipin_jax.data.text.captions import CaptionChoice
from clipin_jax.data.text.masking import mask_tokens
from clipin_jax.data.text.tokenizer import Tokenizer
from clipin_jax.errors import ClipinError

_ATTEMPTS = 100  # unusable records in a row after which no next one is tried
_PROBED = 1000  # records among which there must be a pair
_MASKS = 1  # names the stream of masks, beside that of views and captions
_BLANK: Record = {"image": np.zeros((1, 1, 3), np.uint8), "captions": ("",)}


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
        self._on_device = data.augment_on == "device"
        self._max_pixels = data.max_pixels
        self._choice = CaptionChoice(data.caption_weights)
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

        Beside it `bad`, how many records were of no use on the way, `bad_index`, the
        first of them (-1: none), and `cut`, the share of its captions that were too
        long. Where no record could be found, `index` is -1 and the picture black.
        """
        position, wanted = place
        attempts = min(_ATTEMPTS, len(self._source))
        for bad in range(attempts):
            index = (wanted + bad) % len(self._source)
            try:
                record = self._source[index]
                shares = self._choice.shares(record)
                sample = self._make(position, record, shares)
                break
            except (BadRecord, OSError):
                continue
        else:
            index, bad, sample = -1, attempts, self._make(position, _BLANK, None)
        return sample | {
            "index": np.int64(index),
            "bad": np.int64(bad),
            "bad_index": np.int64(wanted if bad else -1),
        }

    def why_bad(self, index: int) -> str:
        """Reads a record that was of no use once more; says why, "" if it is sound."""
        try:
            record = self._source[index]
            self._choice.shares(record)
            open_image(record["image"], self._max_pixels).pixels()
        except (BadRecord, OSError) as error:
            return str(error)
        return ""

    def check_some(self, indices: Iterable[int]) -> None:
        """Raises ClipinError unless one of the first records is a pair."""
        reasons: Counter[str] = Counter()
        for index, _ in zip(indices, range(_PROBED), strict=False):
            reason = self.why_bad(index)
            if not reason:
                return
            reasons[reason] += 1
        seen = "; ".join(f"{n} times: {text}" for text, n in reasons.most_common(3))
        raise ClipinError(
            f"none of the first {reasons.total()} records is a pair of a picture and a "
            f"caption. Seen: {seen}. Look at data.source, and at the data with "
            "`clipin data check`"
        )

    def _make(self, position: int, record: Record, shares: Any) -> dict[str, Any]:
        picture = open_image(record["image"], self._max_pixels)
        captions, choice = record["captions"], self._choice
        rng = np.random.default_rng((self._seed, position))
        chosen = [choice.draw(rng, len(captions), shares)]
        drawn = [self._draw(rng, picture)]
        if self._views == 2:
            second = chosen[0]
            if self._second_text == "another":
                second = choice.draw_another(rng, chosen[0], len(captions), shares)
            chosen.append(second)
            drawn.append(self._draw(rng, picture))
        said = [captions[number] for number in chosen]
        sample, seen = self._show(picture, drawn)
        image_id = _identity(record["image"])
        for number, view in enumerate(seen):
            text = self._read(position, said[number])
            sample[f"view{number + 1}"] = view | text | {"image_id": image_id}
        cut = [self._tokenizer.is_cut(text) for text in said]
        return sample | {"cut": np.float64(sum(cut) / len(cut))}

    def _draw(
        self, rng: np.random.Generator, picture: OpenImage
    ) -> views.ViewParameters:
        side = self._augment["resize_first"]
        height, width = (side, side) if side else (picture.height, picture.width)
        return views.sample_view(rng, height, width, self._augment)

    def _show(
        self, picture: OpenImage, drawn: Sequence[views.ViewParameters]
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """What all views share, and each view: its image or how to make it."""
        side = self._augment["resize_first"]
        if side:
            share = min(1.0, max(side / picture.height, side / picture.width))
            pixels = views.prepare(picture.pixels(share), self._augment)
            if self._on_device:
                return {"canvas": pixels}, [{"drawn": views.numbers(v)} for v in drawn]
        else:
            pixels = picture.pixels(views.needed_share(drawn, self._size))
            scale = pixels.shape[0] / picture.height, pixels.shape[1] / picture.width
            if scale != (1, 1):
                drawn = [views.scaled(view, *scale) for view in drawn]
        how = self._augment["interpolation"]
        return {}, [
            {"image": views.apply_view(pixels, view, self._size, how)} for view in drawn
        ]

    def _read(self, position: int, caption: str) -> dict[str, Any]:
        ids = self._tokenizer([caption])[0]
        text = {"text": ids, "text_id": _identity(caption.lower().encode())}
        if self._masking:
            # Drawn anew: a caption that both views have is masked alike, so that what
            # the target says of one holds for the other.
            masks = np.random.default_rng((self._seed, position, _MASKS))
            text |= mask_tokens(ids, masks, **self._masking)
        return text


def _identity(data: Any) -> np.int32:
    """Equal for equal data; not negative. 32 bits: in a batch of 32,768, there is on
    average a quarter of a pair that is taken for equal and is not.
    """
    if isinstance(data, np.ndarray):
        data = np.ascontiguousarray(data).data
    return np.int32(zlib.crc32(data) >> 1)


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
        view = views.evaluation_view(image, self._size, self._interpolation)
        return {"image": view, "mask": True, "index": np.int64(index)}
