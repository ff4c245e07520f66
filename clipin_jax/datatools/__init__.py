"""Tools for training data: `check` it, time it (`bench`), `convert` it.

Each of these three modules is a command of `clipin data`. Imports `config`, `data` and
`report`, besides numpy, Pillow and array_record; no jax.
"""
