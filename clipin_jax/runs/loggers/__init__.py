"""Where the metrics of a run are logged: one file for each logger, and their table.

Imports `errors`, `registry` and the packages of the loggers, these on first use.
"""
