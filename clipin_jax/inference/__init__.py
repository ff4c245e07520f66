"""One encoder to use a model: encode, compare, match, caption and explain.

Imports `core`, `data`, `runs` and below.
"""
