"""A check of training data as a result to look at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from clipin_jax.config import apply_overrides
from clipin_jax.datatools.check import load_data_config
from clipin_jax.datatools.data_check import RECORDS, DataCheck, inspect_data
from clipin_jax.errors import check_range


def check_data(
    config: ConfigDict | str | Path,
    overrides: Sequence[str] = (),
    *,
    records: int = RECORDS,
) -> DataCheck:
    """Looks for mistakes in the training data of a config, as `clipin data check` does.

        clipin_jax.check_data("clip:data=/path/to/folder")

    Args:
      config: of `load_config`, or what it takes.
      overrides: "KEY=VALUE", applied to the config.
      records: how many to read, spread evenly over the source; 0 for all.

    Returns:
      Statistics and advice. A notebook shows them with samples; `save` writes the page.

    Raises:
      ClipinError: the source or the tokenizer cannot be built, or `records` is below 0.
    """
    check_range("records", records, 0, math.inf)
    if isinstance(config, ConfigDict):
        resolved = apply_overrides(config, overrides)
    else:
        resolved = load_data_config(config, overrides)
    return inspect_data(resolved, records=records)
