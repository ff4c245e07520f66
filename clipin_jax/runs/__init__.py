"""What a config builds, and a run on disk: its folder, checkpoints and metrics;
the folder of compiled programs.

Imports `config`, `core`, `registry` and orbax; nothing of `data` or evaluation.
"""
