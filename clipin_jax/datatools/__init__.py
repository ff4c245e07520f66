"""Tools for training data: `check` it, time it (`bench`), `convert` it.

`check`, `bench` and `conversion` are commands of `clipin data`. Imports `config`,
`data`, `parts` and `report`, besides numpy, Pillow and array_record; no jax.
"""
