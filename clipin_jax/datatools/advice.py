"""Advice on training data: what to fix before training, from its statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

_MANY = 0.05  # share of cut or repeated captions and images above which to advise
_MANY_BLANK = 0.01  # share of images of one colour above which to advise
_MANY_SMALL = 0.2  # share of images below the model's size above which to advise

Statistics = Mapping[str, Any]  # a part of `dataset_statistics`


class Advice(NamedTuple):
    """A problem to fix before training.

    Attributes:
      text: the problem and what to do.
      stops: whether training would end with an error.
    """

    text: str
    stops: bool = False

    @property
    def heading(self) -> str:
        """The heading of the text."""
        return "training would stop" if self.stops else "to fix"


def advise(statistics: Statistics, config: ConfigDict) -> list[Advice]:
    """Returns the problems to fix, those that would stop training first.

    Args:
      statistics: of the data, see `dataset_statistics`.
      config: the config to train with.
    """
    advice = [*_record_advice(statistics, config)]
    if statistics["captions"]:
        advice += _caption_advice(statistics["captions"], config)
        advice += _image_advice(statistics["images"], config)
    return sorted(advice, key=lambda item: not item.stops)


def _record_advice(statistics: Statistics, config: ConfigDict) -> Iterator[Advice]:
    unusable, batch_size = statistics["unusable"], config.batch_size
    if not statistics["captions"]:
        yield Advice("none of the records can be used", stops=True)
    elif unusable["share"] > unusable["allowed"]:
        yield Advice(
            f"{unusable['share']:.2%} of the records cannot be used, more than "
            f"data.max_bad_fraction {unusable['allowed']} allows: fix or remove them, "
            "or raise the limit",
            stops=True,
        )
    if statistics["records"] < batch_size:
        yield Advice(
            f"{statistics['records']} records do not fill a batch of {batch_size}: "
            "lower batch_size",
            stops=True,
        )


def _caption_advice(captions: Statistics, config: ConfigDict) -> Iterator[Advice]:
    data = config.data
    too_long = (
        f"{captions['cut']:.1%} of the captions are longer than data.context_length "
        f"{data.context_length}"
    )
    if captions["cut"] and data.long_captions == "error":
        yield Advice(f"{too_long}, and data.long_captions is 'error'", stops=True)
    elif captions["cut"] > _MANY:
        yield Advice(
            f"{too_long} and are cut: {captions['tokens']['p95']:.0f} would keep 95% "
            "of them whole"
        )
    if captions["same_in_batch"] > _MANY and not _handles_duplicates(config):
        yield Advice(
            f"in a batch of {config.batch_size}, about {captions['same_in_batch']:.0%} "
            "of the pairs have the same caption as another pair, which counts as a "
            "negative: set objectives.contrastive.duplicates=mask"
        )


def _handles_duplicates(config: ConfigDict) -> bool:
    settings = [part.get("duplicates", "ignore") for part in config.objectives.values()]
    return any(setting != "ignore" for setting in settings)


def _image_advice(images: Statistics, config: ConfigDict) -> Iterator[Advice]:
    if images["duplicates"] > _MANY:
        yield Advice(
            f"{images['duplicates']:.1%} of the images are copies of another, byte for "
            "byte: remove them, or join their captions"
        )
    blank = images["one_colour"]["share"]
    if blank > _MANY_BLANK:
        yield Advice(
            f"{blank:.1%} of the images are nearly of one colour: look at some, as "
            "they may be damaged or in another range of values"
        )
    if images["small"] > _MANY_SMALL:
        height, width = config.data.image_size
        yield Advice(
            f"{images['small']:.0%} of the images are smaller than the {height} x "
            f"{width} pixels of the model and are enlarged: lower "
            "model.image.image_size, or use larger images"
        )
