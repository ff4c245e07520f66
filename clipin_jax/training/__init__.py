"""The training loop, the evaluation of a run, suites of evaluations, the terminal.

Imports everything below it; `commands`, `datatools` and `study` import it.
"""
