"""The `clipin` command: one file for each verb, which parses and calls one function.

Imports any room.
"""
