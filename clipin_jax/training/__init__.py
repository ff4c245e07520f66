"""The training loop, evaluation of a run, suites of evaluations, output in a terminal.

Imports every room but `datatools`, `study` and `commands`.
"""
