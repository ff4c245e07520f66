"""Sweeps: points of a space of configs are trained once each, by processes that share
compiled programs; and what studies share with them: runs, processes, scores of runs.

Imports `config`, `evaluators`, `runs`, `report`, `training`. `search` is the
one part that needs Optuna; `pages` shows the results.
"""
