"""Reads the images of evaluations, since one that cannot be read ends them."""

from __future__ import annotations

from collections.abc import Iterator

from ml_collections import ConfigDict

from clipin_jax.config.overrides import fields, is_unset
from clipin_jax.data import make_source
from clipin_jax.data.image.decode import decode
from clipin_jax.data.source import BadRecord, Source, read_image, why_unusable
from clipin_jax.data.sources import is_source
from clipin_jax.datatools.advice import Advice
from clipin_jax.datatools.parallel_map import map_in_order
from clipin_jax.errors import ClipinError

_SHOWN = 3  # records in a message


def check_evaluations(
    config: ConfigDict, *, records: int, threads: int
) -> Iterator[Advice]:
    """Yields a problem for each source of `config.evals` that cannot be read.

    Args:
      config: any config; sources that are equal are read once.
      records: how many to read of each, spread evenly; 0 for all.
      threads: that read.
    """
    seen = []
    for name, entry in config.evals.items():
        for key in filter(is_source, entry):
            source = entry[key]
            if source is None or _is_incomplete(source) or source in seen:
                continue
            seen.append(source)
            problem = _problem(source, records, threads)
            if problem:
                yield Advice(f"evals.{name}.{key}: {problem}", stops=True)


def _is_incomplete(source: ConfigDict) -> bool:
    """Whether a key is left to the user, such as the folder of the evaluation."""
    return any(is_unset(field) for *_, field in fields(source))


def _problem(arguments: ConfigDict, records: int, threads: int) -> str:
    """Returns what is wrong with a source, "" if nothing is."""
    try:
        source = make_source(**arguments)
    except ClipinError as error:
        return str(error)
    count = min(records, len(source)) or len(source)
    indices = [number * len(source) // count for number in range(count)]
    reasons = map_in_order(lambda index: _reason(source, index), indices, threads)
    bad = [
        f"record {index}, {source.describe(index)}: {reason}"
        for index, reason in zip(indices, reasons, strict=True)
        if reason
    ]
    if not bad:
        return "" if len(source) else "it is empty"
    more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    return (
        f"{len(bad)} of {count} images cannot be read: {'; '.join(bad[:_SHOWN])}{more}"
    )


def _reason(source: Source, index: int) -> str:
    try:
        decode(read_image(source, index))
    except (BadRecord, OSError) as error:
        return why_unusable(error)
    except ClipinError as error:
        return str(error)
    return ""
