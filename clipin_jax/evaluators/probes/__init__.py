"""Classifiers on features: their labels, linear heads, logistic regression.

Imports `inference` and `evaluators.metrics`.
"""
