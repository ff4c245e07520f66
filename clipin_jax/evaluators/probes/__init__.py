"""Classifiers on features: labels to learn, linear heads, logistic regression.

Imports `inference` and `evaluators.metrics`.
"""
