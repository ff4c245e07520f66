"""Runs, data and configs in a notebook: train in a cell, then look at the result.

`clipin_jax.train` and `clipin_jax.Run` live here; the command line has no part of it.
Imports all rooms but `commands`. IPython is used where it is running, and not needed.
"""
