"""Turns a record into a training sample: decodes it, makes views, draws captions."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from clipin_jax.data.image import make_transforms, views
from clipin_jax.data.image.decode import OpenImage, open_image
from clipin_jax.data.source import (
    BadRecord,
    Record,
    Source,
    read_record,
    why_unusable,
)
from clipin_jax.data.text.captions import CaptionChoice
from clipin_jax.data.text.masking import mask_tokens
from clipin_jax.data.text.tokenizer import Tokenizer
from clipin_jax.errors import ClipinError, explained

_ATTEMPTS = 100  # bad records before it gives up
_PROBED = 1000  # first records, one of which must be a pair
_SHOWN = 60  # letters of a caption in a message
_MASKS = 1  # number of the random stream of masks
_BLANK: Record = {"image": np.zeros((1, 1, 3), np.uint8), "captions": ("",)}


class SampleMaker:
    """Makes the sample of (position, index). Its randomness depends on the position.

    The first view and its caption do not depend on whether there is a second one.

    Args:
      source: of the records.
      tokenizer: of the captions.
      data: `config.data`.
      seed: of views, captions and masks.
    """

    def __init__(
        self, source: Source, tokenizer: Tokenizer, data: ConfigDict, seed: int
    ):
        self._source, self._tokenizer, self._seed = source, tokenizer, seed
        self._size = tuple(data.image_size)
        self._views, self._second_text = data.views, data.second_text
        self._on_device = data.augment_on == "device"
        self._max_pixels = data.max_pixels
        self._choice = CaptionChoice(data.caption_weights, data.caption_cleaning)
        self._masking: dict[str, Any] = {}
        if data.mask_probability:
            self._masking = dict(
                probability=data.mask_probability,
                mask_id=tokenizer.mask_id,
                vocab_size=tokenizer.vocab_size,
                never_masked=tokenizer.never_masked,
            )
        # A plain dict is faster to read, and can be sent to worker processes.
        self._augment = data.augment.to_dict()
        self._transforms = make_transforms(self._augment["transforms"])

    def __call__(self, position_and_index: tuple[int, int]) -> dict[str, Any]:
        """Returns a sample as `TrainBatches` documents it, without the batch axis.

        A bad record is replaced by a good one. Without a good record, `index` is -1 and
        the image is black. A sample has two more values:
          bad: index of the bad record that was replaced, -1 if there is none.
          cut_share: share of the sample's captions that were too long.
        """
        position, first = position_and_index
        for index in _candidates(first, len(self._source)):
            try:
                record = read_record(self._source, index)
                shares = self._choice.shares(record)
                sample = self._make(position, record, shares)
                break
            except (BadRecord, OSError):
                continue
        else:
            index = -1
            sample = self._make(position, _BLANK, None)
        bad = first if index != first else -1
        return sample | {"index": np.int64(index), "bad": np.int64(bad)}

    def find_problem(self, index: int) -> BadRecord | OSError | None:
        """Reads a record, and returns what makes it bad, None if it is not."""
        try:
            record = read_record(self._source, index)
            self._choice.shares(record)
            open_image(record["image"], self._max_pixels).pixels()
        except (BadRecord, OSError) as error:
            return error
        return None

    def check_some(self, indices: Iterable[int]) -> None:
        """Checks that one of the first records is a pair. Raises ClipinError."""
        reasons: Counter[str] = Counter()
        problem = None
        for index, _ in zip(indices, range(_PROBED), strict=False):
            problem = self.find_problem(index)
            if problem is None:
                return
            reasons[why_unusable(problem)] += 1
        seen = "; ".join(f"{n} times: {text}" for text, n in reasons.most_common(3))
        raise ClipinError(
            f"none of the first {reasons.total()} records is a pair of an image and a "
            f"caption. Seen: {seen}. Look at data.source, and at the data with "
            "`clipin data check`"
        ) from problem

    def _make(
        self, position: int, record: Record, shares: np.ndarray | None
    ) -> dict[str, Any]:
        image = open_image(record["image"], self._max_pixels)
        captions, choice = record["captions"], self._choice
        rng = np.random.default_rng((self._seed, position))
        # Captions and views are drawn in turn, so that the draws of the first view do
        # not depend on the second.
        chosen = [choice.draw(rng, len(captions), shares)]
        parameters = [self._draw_view(rng, image)]
        if self._views == 2:
            second = chosen[0]
            if self._second_text == "another":
                second = choice.draw_another(rng, chosen[0], len(captions), shares)
            chosen.append(second)
            parameters.append(self._draw_view(rng, image))
        texts = [captions[number] for number in chosen]
        sample, images = self._make_images(image, parameters)
        image_id = _hash(record["image"])
        for number, (view, text) in enumerate(zip(images, texts, strict=True), 1):
            tokens = self._tokenize(position, text)
            sample[f"view{number}"] = view | tokens | {"image_id": image_id}
        cut = [self._tokenizer.is_cut(text) for text in texts]
        return sample | {"cut_share": np.float64(sum(cut) / len(cut))}

    def _draw_view(
        self, rng: np.random.Generator, image: OpenImage
    ) -> views.ViewParameters:
        side = self._augment["resize_first"]
        height, width = (side, side) if side else (image.height, image.width)
        return views.sample_view(rng, height, width, self._augment)

    def _make_images(
        self, image: OpenImage, parameters: Sequence[views.ViewParameters]
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Returns what the views share, and the image or parameters of each view."""
        side = self._augment["resize_first"]
        if side:
            share = min(1.0, max(side / image.height, side / image.width))
            pixels = views.prepare(image.pixels(share), self._augment)
            if self._on_device:
                numbers = [{"drawn": views.numbers(view)} for view in parameters]
                return {"canvas": pixels}, numbers
        else:
            pixels = image.pixels(views.needed_share(parameters, self._size))
            scale = pixels.shape[0] / image.height, pixels.shape[1] / image.width
            if scale != (1, 1):
                parameters = [views.scaled(view, *scale) for view in parameters]
        apply = partial(
            views.apply_view,
            size=self._size,
            interpolation=self._augment["interpolation"],
            transforms=self._transforms,
        )
        return {}, [{"image": apply(pixels, view)} for view in parameters]

    def _tokenize(self, position: int, caption: str) -> dict[str, Any]:
        with explained(f"data.tokenizer: {caption[:_SHOWN]!r}"):
            ids = self._tokenizer([caption])[0]
        text = {"text": ids, "text_id": _hash(caption.lower().encode())}
        if self._masking:
            # A new generator masks the same caption equally in both views, so that the
            # target's prediction for one view is valid for the other.
            rng = np.random.default_rng((self._seed, position, _MASKS))
            text |= mask_tokens(ids, rng, **self._masking)
        return text


def _candidates(first: int, count: int) -> list[int]:
    """Returns the indices to try for a sample: a record, then its replacements.

    Distances double at first, so that a long run of bad records is left in few attempts
    and its records do not all have the same replacement.
    """
    doubling = [1 << power for power in range(count.bit_length()) if 1 << power < count]
    offsets = dict.fromkeys([0, *doubling, *range(min(count, _ATTEMPTS))])
    return [(first + offset) % count for offset in list(offsets)[:_ATTEMPTS]]


def _hash(data: Any) -> np.int32:
    """Returns a 31-bit hash, not negative.

    A batch of 32,768 has on average 0.25 pairs of different data with equal hashes.
    """
    if isinstance(data, np.ndarray):
        data = np.ascontiguousarray(data).data
    return np.int32(zlib.crc32(data) >> 1)
