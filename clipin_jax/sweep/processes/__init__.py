"""Runs of a study or a sweep, and the processes that train them.

`pool` starts processes, `tasks` is what they do; each run is one of `runs`, and
`listed_runs` gives out those of a list.
"""
