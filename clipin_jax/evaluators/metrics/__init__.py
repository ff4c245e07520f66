"""Scores: arrays or captions in, numbers out.

Imports numpy and scipy, nothing of ours but `errors`.
"""
