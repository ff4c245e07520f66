"""From files to batches: `sources` read records, `pipeline` makes batches of them.

Imports `errors` and `registry`, numpy and grain; never jax.
"""

from clipin_jax.data.sources import SOURCES, make_source

__all__ = ["SOURCES", "make_source"]
