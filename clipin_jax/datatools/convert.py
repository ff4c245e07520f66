"""`clipin data convert`: the records of any source as sharded files.

Each file is written under another name, read again and compared record for record,
and only then gets its own. What was stopped goes on with the file it was at.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from clipin_jax.data import make_source
from clipin_jax.data.source import mixture_parts
from clipin_jax.data.storage import is_remote
from clipin_jax.datatools.manifest import FORMAT, Manifest
from clipin_jax.datatools.shards import Shards
from clipin_jax.datatools.threads import count_cores
from clipin_jax.datatools.writers import FORMATS
from clipin_jax.errors import DONE, REQUEUE, ClipinError, check_choice

_TOLERATED = 100  # records seen before the share of bad ones is judged


def convert(
    config: ConfigDict,
    out: str | Path,
    to: str = "array_record",
    records_per_file: int = 10_000,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> int:
    """Writes the records of a config's training source to files.

    Encoded pictures stay the bytes they are, others become PNG; all captions, their
    kinds and labels are kept. Records that cannot be used, among them those whose
    picture cannot be decoded, are left out and listed in `manifest.json`.

    Args:
      config: any config; nothing but its data counts.
      out: a local folder; one that this command was stopped in is gone on with.
      to: "array_record" or "webdataset".
      records_per_file: of the source; files have fewer where some are of no use.
      overwrite: whether to begin anew in a folder that holds files already.
      say: where the lines go.

    Returns:
      0, or 75 where it was stopped by Ctrl-C.

    Raises:
      ClipinError: the source cannot be made, the folder holds another one's records or
        cannot be written, more records are bad than `data.max_bad_fraction` allows, or
        what was read again is not what was written.
    """
    check_choice("--to", to, tuple(FORMATS))
    if records_per_file < 1:
        raise ClipinError(f"--records-per-file is {records_per_file}; at least 1")
    folder = _folder(out)
    source = make_source(**config.data.source)
    facts = {
        "format": FORMAT,
        "records": 0,
        "classes": list(source.classes),
        "fingerprint": source.fingerprint,
        "to": to,
        "records_per_file": records_per_file,
        "source": config.data.source.to_dict(),
    }
    try:
        shards = _shards(config, source, folder, to, records_per_file)
        manifest = Manifest(folder, facts, overwrite)
        say(f"clipin: {len(source):,} records to {len(shards.names)} files in {folder}")
        for remark in (*_about_mixture(source), *shards.remarks):
            say(remark)
        _write(shards, manifest, config.data.max_bad_fraction, say)
    except KeyboardInterrupt:
        say("stopped: run the same command again to go on")
        return REQUEUE
    except OSError as error:
        raise ClipinError(
            f"cannot write to {out}: {error.strerror or error}; once that is mended, "
            "the same command goes on"
        ) from error
    say(
        f"{manifest.records():,} records written and read again, {len(manifest.bad):,} "
        f"left out. Read them with\n{as_code(shards.reading(shards.names))}"
    )
    return DONE


def as_code(source: dict[str, Any]) -> str:
    """A source as it is written in a config."""
    lines = (f"    {key}={value!r}," for key, value in source.items())
    return "\n".join(["source=dict(", *lines, ")"])


def _shards(config, source, folder: Path, to: str, size: int) -> Shards:
    split = str(config.data.source.get("split", ""))
    return Shards(
        source,
        folder,
        FORMATS[to],
        prefix=split if re.fullmatch(r"\w+", split) else "train",
        size=size,
        threads=max(count_cores(), config.data.threads),
        max_pixels=config.data.max_pixels,
    )


def _write(shards: Shards, manifest: Manifest, allowed: float, say) -> None:
    """Writes what is missing."""
    for number, name in enumerate(shards.names):
        if not manifest.done(name):
            manifest.whole = False
            entry, bad = shards.write(number)
            manifest.add(name, entry, [one._asdict() for one in bad])
            size = entry["bytes"] / 1e6
            say(f"  {name}  {entry['records']:,} records, {size:,.1f} MB")
        _judge(manifest, allowed, last=number == len(shards.names) - 1)
    if not manifest.whole:
        shards.demand(manifest.records())
        manifest.finish()


def _judge(manifest: Manifest, allowed: float, last: bool) -> None:
    """Raises where too many records are bad."""
    bad = manifest.bad
    seen = sum(entry["seen"] for entry in manifest.files.values())
    if len(bad) > allowed * seen and (last or seen >= _TOLERATED):
        example = bad[0]
        raise ClipinError(
            f"{len(bad)} of {seen} records are of no use, more than "
            f"data.max_bad_fraction {allowed} allows. One of them: record "
            f"{example['index']}, {example['where']}: {example['reason']}. Mend the "
            "data, or raise the limit and run the command again to go on"
        )


def _folder(out: str | Path) -> Path:
    if is_remote(str(out)):  # as text: a Path would have lost one of the strokes
        raise ClipinError(f"{out} is no local folder: write to one, and copy that")
    folder = Path(out).expanduser().absolute()
    if re.search(r"[*?\[{]", str(folder)):
        raise ClipinError(
            f"{folder} has one of the signs * ? [ {{, which stand for other names "
            "where files are read: choose another folder"
        )
    return folder


def _about_mixture(source: Any) -> list[str]:
    several = len(mixture_parts(source)) > 1
    return ["the weights of the mixture's sources are not kept"] if several else []
