"""What a scan says in figures, and what of it should be mended before training."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from clipin_jax.data.source import Source
from clipin_jax.datatools.scan import Scan

MANY = 0.05  # share of cut captions, of repeats and the like that is worth a word
SMALL = 0.2  # share of pictures smaller than what the model sees
SHOWN = 10  # most frequent captions

_MEGABYTE = 1e6


class Advice(NamedTuple):
    """A sentence on what to mend; `stops`: training would end with an error."""

    text: str
    stops: bool = False

    @property
    def head(self) -> str:
        """What stands before the text."""
        return "training would stop" if self.stops else "mend"


def figures(scan: Scan, source: Source, config: ConfigDict) -> dict[str, Any]:
    """All figures of a scan as a tree that JSON can hold."""
    seconds = max(scan.seconds, 1e-9)
    return {
        "config": config.name,
        "source": config.data.source.to_dict(),
        "fingerprint": source.fingerprint,
        "records": len(source),
        "looked_at": len(scan),
        "pictures": _pictures(scan, config) if scan.index else None,
        "captions": _captions(scan, source, config) if scan.index else None,
        "classes": _classes(scan, source),
        "bad": {
            "count": scan.bad,
            "share": scan.bad / max(1, len(scan)),
            "allowed": config.data.max_bad_fraction,
            "reasons": dict(scan.reasons.most_common(SHOWN)),
            "first": [bad._asdict() for bad in scan.described],
        },
        "speed": {
            "seconds": scan.seconds,
            "records_per_second": len(scan) / seconds,
            "megabytes_per_second": sum(scan.bytes) / seconds / _MEGABYTE,
        },
    }


def advise(found: dict[str, Any], config: ConfigDict) -> list[Advice]:
    """What should be mended, the worst first; empty where all is well."""
    advice = [*_about_records(found, config)]
    if found["captions"]:
        advice += [*_about_captions(found["captions"], config)]
        advice += [*_about_pictures(found["pictures"], config)]
    return sorted(advice, key=lambda one: not one.stops)


def _about_records(found, config):
    bad, batch = found["bad"], config.batch_size
    if not found["captions"]:
        yield Advice("not one of the records can be used", stops=True)
    elif bad["share"] > bad["allowed"]:
        yield Advice(
            f"{bad['share']:.2%} of the records are of no use, more than "
            f"data.max_bad_fraction {bad['allowed']} allows: mend or remove them, or "
            "raise the limit",
            stops=True,
        )
    if found["records"] < batch:
        yield Advice(
            f"{found['records']} records do not fill a batch of {batch}: lower "
            "batch_size",
            stops=True,
        )


def _about_captions(captions, config):
    data = config.data
    if captions["cut"] and data.long_captions == "error":
        yield Advice(
            f"{captions['cut']:.1%} of the captions are longer than "
            f"data.context_length {data.context_length}, and data.long_captions is "
            "'error'",
            stops=True,
        )
    elif captions["cut"] > MANY:
        yield Advice(
            f"{captions['cut']:.1%} of the captions are longer than "
            f"data.context_length {data.context_length} and lose their end: "
            f"{captions['tokens']['p95']:.0f} would hold 95% of them whole"
        )
    if captions["same_in_batch"] > MANY and not _knows_duplicates(config):
        yield Advice(
            f"in a batch of {config.batch_size} about {captions['same_in_batch']:.0%} "
            "of the pairs have a caption that another pair has too, and are taught "
            "apart: objectives.contrastive.duplicates=mask"
        )


def _knows_duplicates(config: ConfigDict) -> bool:
    settings = [part.get("duplicates", "ignore") for part in config.objectives.values()]
    return any(setting != "ignore" for setting in settings)


def _about_pictures(pictures, config):
    if pictures["duplicates"] > MANY:
        yield Advice(
            f"{pictures['duplicates']:.1%} of the pictures are copies of another, byte "
            "for byte: remove them, or join their captions"
        )
    if pictures["small"] > SMALL:
        height, width = config.data.image_size
        yield Advice(
            f"{pictures['small']:.0%} of the pictures are smaller than the {height} x "
            f"{width} pixels that the model sees and are blown up: lower "
            "model.image.image_size, or get larger ones"
        )


def _pictures(scan: Scan, config: ConfigDict) -> dict[str, Any]:
    height, width = np.asarray(scan.height), np.asarray(scan.width)
    wanted = config.data.image_size
    total = len(scan.index)
    return {
        "formats": {name: n / total for name, n in scan.formats.most_common()},
        "height": _spread(height),
        "width": _spread(width),
        "bytes": _spread(np.asarray(scan.bytes)),
        "small": float(np.mean((height < wanted[0]) | (width < wanted[1]))),
        "duplicates": 1 - len(np.unique(np.asarray(scan.picture))) / total,
    }


def _captions(scan: Scan, source: Source, config: ConfigDict) -> dict[str, Any]:
    captions = np.asarray(scan.caption)
    _, first, times = np.unique(captions, return_index=True, return_counts=True)
    tokens = np.asarray(scan.tokens)
    total = len(captions)
    order = np.argsort(-times, kind="stable")[:SHOWN]
    frequent = [
        {"caption": _text(scan, source, int(first[n])), "count": int(times[n])}
        for n in order
        if times[n] > 1
    ]
    return {
        "count": total,
        "per_record": _spread(np.asarray(scan.count)),
        "kinds": {name: n / total for name, n in scan.kinds.most_common(SHOWN)},
        "tokens": _spread(tokens),
        "cut": float(np.mean(tokens > config.data.context_length)),
        "duplicates": 1 - len(times) / total,
        "same_in_batch": _same_in_batch(scan, config.batch_size),
        "most_frequent": frequent,
    }


def _same_in_batch(scan: Scan, batch_size: int) -> float:
    """The expected share of a batch's pairs whose caption another of its pairs has.

    A caption that a record has twice counts once: a batch takes one of each record.
    """
    owner = np.repeat(np.arange(len(scan.count)), np.asarray(scan.count))
    order = np.lexsort((owner, np.asarray(scan.caption)))
    caption, owner = np.asarray(scan.caption)[order], owner[order]
    again = np.zeros(len(order), bool)
    again[1:] = (caption[1:] == caption[:-1]) & (owner[1:] == owner[:-1])
    times = np.unique(caption[~again], return_counts=True)[1]
    total = times.sum()
    others = (times - 1) / max(1, total - 1)
    return float(np.sum(times / total * (1 - (1 - others) ** (batch_size - 1))))


def _classes(scan: Scan, source: Source) -> dict[str, int]:
    """How many records that were looked at have each class."""
    return {name: scan.labels[n] for n, name in enumerate(source.classes)}


def _text(scan: Scan, source: Source, place: int) -> str:
    """A caption by its place among all: read once more, since only hashes are kept."""
    ends = np.cumsum(np.asarray(scan.count))
    row = int(np.searchsorted(ends, place, side="right"))
    before = int(ends[row - 1]) if row else 0
    try:
        return source.annotations(scan.index[row])["captions"][place - before]
    except Exception:  # gone in the meantime
        return "(can not be read any more)"


def _spread(values: np.ndarray) -> dict[str, float]:
    levels = dict(min=0, median=50, p95=95, max=100)
    found = np.percentile(values, list(levels.values()), method="higher")
    return dict(zip(levels, map(float, found), strict=True))
