"""What a config builds, and a run on disk: its folder, checkpoints and metrics.

Imports `config`, `core`, `registry` and orbax; nothing of `data` or evaluation.
"""
