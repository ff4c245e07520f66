"""Computes the statistics of scanned records, as numbers for JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from clipin_jax.data.source import Source
from clipin_jax.datatools.record_scan import ScanResult

_SHOWN = 10  # captions, kinds and reasons: the most frequent ones
_MEGABYTE = 1e6


def dataset_statistics(
    scan: ScanResult, source: Source, config: ConfigDict
) -> dict[str, Any]:
    """Returns all statistics of a scan as a tree for JSON."""
    seconds = max(scan.seconds, 1e-9)
    return {
        "config": config.name,
        "source": config.data.source.to_dict(),
        "fingerprint": source.fingerprint,
        "records": len(source),
        "scanned": len(scan),
        "images": _images(scan, config) if scan.index else None,
        "captions": _captions(scan, source, config) if scan.index else None,
        "classes": {name: scan.labels[n] for n, name in enumerate(source.classes)},
        "unusable": {
            "count": scan.unusable,
            "share": scan.unusable / max(1, len(scan)),
            "allowed": config.data.max_bad_fraction,
            "reasons": dict(scan.reasons.most_common(_SHOWN)),
            "first": [record._asdict() for record in scan.described],
        },
        "speed": {
            "seconds": scan.seconds,
            "records_per_second": len(scan) / seconds,
            "megabytes_per_second": sum(scan.bytes) / seconds / _MEGABYTE,
        },
    }


def _images(scan: ScanResult, config: ConfigDict) -> dict[str, Any]:
    height, width = np.asarray(scan.height), np.asarray(scan.width)
    model_height, model_width = config.data.image_size
    total = len(scan.index)
    return {
        "formats": {name: n / total for name, n in scan.formats.most_common()},
        "height": _spread(height),
        "width": _spread(width),
        "bytes": _spread(np.asarray(scan.bytes)),
        "small": float(np.mean((height < model_height) | (width < model_width))),
        "one_colour": {"count": scan.one_colour, "share": scan.one_colour / total},
        "duplicates": 1 - len(np.unique(np.asarray(scan.image))) / total,
    }


def _captions(scan: ScanResult, source: Source, config: ConfigDict) -> dict[str, Any]:
    captions = np.asarray(scan.caption)
    _, first, times = np.unique(captions, return_index=True, return_counts=True)
    tokens = np.asarray(scan.tokens)
    total = len(captions)
    order = np.argsort(-times, kind="stable")[:_SHOWN]
    frequent = [
        {"caption": _caption(scan, source, int(first[n])), "count": int(times[n])}
        for n in order
        if times[n] > 1
    ]
    return {
        "count": total,
        "per_record": _spread(np.asarray(scan.count)),
        "kinds": {name: n / total for name, n in scan.kinds.most_common(_SHOWN)},
        "tokens": _spread(tokens),
        "cut": float(np.mean(tokens > config.data.context_length)),
        "duplicates": 1 - len(times) / total,
        "same_in_batch": _same_in_batch(scan, config.batch_size),
        "most_frequent": frequent,
    }


def _same_in_batch(scan: ScanResult, batch_size: int) -> float:
    """Returns the expected share of pairs in a batch that share a caption.

    A caption that a record has twice counts once: a batch has one caption per record.
    """
    record = np.repeat(np.arange(len(scan.count)), np.asarray(scan.count))
    order = np.lexsort((record, np.asarray(scan.caption)))
    caption, record = np.asarray(scan.caption)[order], record[order]
    repeated = np.zeros(len(order), bool)
    repeated[1:] = (caption[1:] == caption[:-1]) & (record[1:] == record[:-1])
    times = np.unique(caption[~repeated], return_counts=True)[1]
    total = times.sum()
    others = (times - 1) / max(1, total - 1)
    return float(np.sum(times / total * (1 - (1 - others) ** (batch_size - 1))))


def _caption(scan: ScanResult, source: Source, index: int) -> str:
    """Returns a caption by its index among all; the scan has only its hash."""
    ends = np.cumsum(np.asarray(scan.count))
    row = int(np.searchsorted(ends, index, side="right"))
    before = int(ends[row - 1]) if row else 0
    try:
        return source.annotations(scan.index[row])["captions"][index - before]
    except Exception:  # the data has changed since the scan
        return "(cannot be read any more)"


def _spread(values: np.ndarray) -> dict[str, float]:
    levels = dict(min=0, median=50, p95=95, max=100)
    numbers = np.percentile(values, list(levels.values()), method="higher")
    return dict(zip(levels, map(float, numbers), strict=True))
