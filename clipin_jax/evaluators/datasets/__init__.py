"""Files that evaluators read: prompts, columns of text, published benchmarks.

Imports `data`, `errors` and `registry`.
"""
