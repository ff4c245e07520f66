"""Looks into checkpoints, compares and averages them: without a model or its devices.

Imports `config`, `core.parameter_paths`, `storage`, orbax and other modules of `runs`.
"""
