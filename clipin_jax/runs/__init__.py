"""A run on disk and what its config builds: folder, checkpoints, metrics.

Imports `config`, `core` and orbax.
"""
