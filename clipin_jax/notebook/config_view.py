"""A config as HTML: what differs from its page, all other keys folded."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from clipin_jax.config import UNSET, base_page, changes_of_page, config_values
from clipin_jax.errors import ClipinError
from clipin_jax.report.components import fold, note
from clipin_jax.report.fragment import fragment
from clipin_jax.report.markup import Markup, tag
from clipin_jax.report.tables import compare_trees, key_table
from clipin_jax.report.text_format import count_noun


def config_html(config: ConfigDict) -> str:
    """Returns a config, or a group of one, as HTML."""
    with contextlib.suppress(ClipinError):  # such as a class that is missing
        if page := base_page(config):
            return fragment(_changes(config, page), fold("All keys", all_keys(config)))
    return fragment(all_keys(config))


def all_keys(config: ConfigDict) -> Markup:
    """Returns every key with its value."""
    values = _values(config_values(config))
    return key_table(values, ("value",)) or note("No keys.")


def _changes(config: ConfigDict, page: str) -> Markup:
    there, here = changes_of_page(config)
    rows = _values(there, here)
    rows.pop("name", None)  # it says no more than the page and its options
    title, table = tag("b", config.name), key_table(rows, (page, "value"))
    if table is None:
        return tag("p", title, f": {page} as it is")
    return tag("div", tag("p", title, f": {_count(rows)} of {page} changed"), table)


def _count(rows: Mapping[str, Any]) -> str:
    return count_noun(len(rows), "key")


def _values(*configs: Mapping[str, Any]) -> dict[str, list[str]]:
    """Returns each key with its value in every config, as text."""
    return compare_trees(
        {key: "(required)" if value is UNSET else value for key, value in each.items()}
        for each in configs
    )
