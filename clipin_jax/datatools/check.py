"""`clipin data check`: scans the data of a config and reports what to fix."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from clipin_jax.config import check_keys, check_lists, check_types, load_config
from clipin_jax.datatools.data_check import RECORDS, inspect_data
from clipin_jax.errors import DONE, WRONG_INPUT
from clipin_jax.storage import write_output


def check(
    config: ConfigDict,
    *,
    records: int = RECORDS,
    output: Path | None = None,
    json_file: Path | None = None,
    print_line: Callable[[str], None] = print,
) -> int:
    """Scans the training data of a config; prints statistics and advice.

    Of evaluations only the images are read, since one that cannot be ends them.

    Args:
      config: any config; only its data, evals, batch size and name are used.
      records: how many to read, spread evenly over the source; 0 for all.
      output: writes an HTML page with more statistics, and samples of training.
      json_file: writes the statistics as JSON.
      print_line: prints a line.

    Returns:
      0, or 78 if training on this data would end with an error.

    Raises:
      ClipinError: the source or the tokenizer cannot be built, or a file cannot be
        written.
    """
    done = inspect_data(config, records=records)
    print_line(done.summary())
    if json_file:
        text = json.dumps(done.statistics, indent=2, ensure_ascii=False) + "\n"
        print_line(f"statistics: {write_output(json_file, text)}")
    if output:
        print_line(f"page: {done.save(output)}")
    return WRONG_INPUT if done.stops else DONE


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
