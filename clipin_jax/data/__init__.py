"""From files to batches: `sources` give records, `pipeline` makes batches of them."""

from clipin_jax.data.sources import SOURCES, make_source

__all__ = ["SOURCES", "make_source"]
