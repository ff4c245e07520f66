"""Work on many machines: cut into shards, done in parts, on Dask, and joined.

A job names its shards, and makes one of them. A folder knows which are finished, so
runners only choose which to make, and where. Imports `errors`; dask only where it is
asked for.
"""
