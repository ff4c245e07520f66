"""Searches by Optuna: a journal of trials, rules that stop runs, the runs of trials.

`methods` has the names and needs nothing; import the others where they are used.
"""
