"""Studies: a sweep over methods, levels and seeds, compared by tests on a page.

The file's format, statistics, conclusions and pages are here; runs, processes and
scores of runs are those of `sweep`. Imports `sweep` and below.
"""
