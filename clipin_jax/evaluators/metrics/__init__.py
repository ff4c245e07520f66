"""Metrics as functions of arrays or captions.

Imports numpy and scipy only.
"""
