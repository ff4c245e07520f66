"""Work on many machines: cut into shards, done in parts, on Dask, and joined.

A job names its shards and makes one of them. This room keeps what is finished in a
folder, so a shard is never made twice for long: runners only choose which to make, and
where. Imports `errors`; dask only where it is asked for.
"""
