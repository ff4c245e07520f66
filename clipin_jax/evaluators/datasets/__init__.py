"""What evaluators read: labels and captions, prompts, text files, benchmarks.

Imports `data`, `errors` and `registry`.
"""
