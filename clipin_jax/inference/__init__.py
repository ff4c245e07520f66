"""One encoder for all who read a model: encode, compare, match, caption, explain.

Imports `core`, `data` and `runs`; evaluators, reports and users import it.
"""
