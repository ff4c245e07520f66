"""Classifiers on frozen features: labels, linear heads, logistic regression.

Imports `inference` and `evaluators.metrics`.
"""
