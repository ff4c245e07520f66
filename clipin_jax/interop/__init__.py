"""Weights of other libraries, in and out: a table of names for each ecosystem.

Files are read array by array, without torch, and nothing in them is run.
"""
