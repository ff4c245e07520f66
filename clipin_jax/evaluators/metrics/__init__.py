"""Scores: arrays or captions in, numbers out.

Imports numpy and scipy only.
"""
