"""`clipin data check`: scans the data of a config and reports what to fix."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from clipin_jax.config import check_keys, check_lists, check_types, load_config
from clipin_jax.data import make_source
from clipin_jax.data.source import Source
from clipin_jax.datatools.data_check import (
    RECORDS,
    check_records,
    judge_scan,
    scan_here,
    scan_threads,
)
from clipin_jax.datatools.record_scan import ScanResult
from clipin_jax.datatools.scan_job import scan_in_parts
from clipin_jax.errors import DONE, REQUEUE, WRONG_INPUT, ClipinError
from clipin_jax.parts.run import How
from clipin_jax.storage import write_output


def check(
    config: ConfigDict,
    *,
    records: int = RECORDS,
    output: Path | None = None,
    json_file: Path | None = None,
    folder: Path | None = None,
    how: How = How(),
    print_line: Callable[[str], None] = print,
) -> int:
    """Scans the training data of a config; prints statistics and advice.

    Of evaluations only the images are read, since one that cannot be ends them.

    Args:
      config: any config; only its data, evals, batch size and name are used.
      records: how many to read, spread evenly over the source; 0 for all.
      output: writes an HTML page with more statistics, and samples of training.
      json_file: writes the statistics as JSON.
      folder: keeps the figures of parts; None to keep none.
      how: by this process, in parts, or on Dask; all but the first need a folder.
      print_line: prints a line.

    Returns:
      0, 78 if training on this data would end with an error, or 75 if it was stopped by
      Ctrl-C with the figures so far kept in the folder.

    Raises:
      ClipinError: the source or the tokenizer cannot be built, a file cannot be
        written, or parts are missing that should be merged.
    """
    check_records(records)
    source = make_source(**config.data.source)
    scan = _scan(
        config, source, records=records, folder=folder, how=how, print_line=print_line
    )
    if not isinstance(scan, ScanResult):
        return scan
    done = judge_scan(config, source, scan, records=records)
    print_line(done.summary())
    if json_file:
        text = json.dumps(done.statistics, indent=2, ensure_ascii=False) + "\n"
        print_line(f"statistics: {write_output(json_file, text)}")
    if output:
        print_line(f"page: {done.save(output)}")
    return WRONG_INPUT if done.stops else DONE


def _scan(
    config: ConfigDict,
    source: Source,
    *,
    records: int,
    folder: Path | None,
    how: How,
    print_line: Callable[[str], None],
) -> ScanResult | int:
    """Returns the numbers of all records, or the exit code if there are not all."""
    if not folder:
        if how != How(argv=how.argv):
            raise ClipinError(
                "parts keep their figures in a folder: name it by --folder"
            )
        return scan_here(config, source, records=records)
    try:
        scan = scan_in_parts(
            config, folder, records=records, threads=scan_threads(config), how=how,
            print_line=print_line,
        )  # fmt: skip
    except KeyboardInterrupt:
        print_line("stopped: run the same command to resume")
        return REQUEUE
    return DONE if scan is None else scan


def load_data_config(spec: str | Path, overrides: Sequence[str] = ()) -> ConfigDict:
    """Returns a config whose data is to be read; evaluations may lack theirs.

    Raises:
      ClipinError: as `load_config` does, or a key is wrong.
    """
    config = load_config(spec, overrides, optional="evals")
    check_keys(config)
    check_lists(config, "data")
    check_types(config, "data")
    return config
