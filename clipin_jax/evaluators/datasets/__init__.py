"""What evaluators read: labels and captions, prompts, text files, benchmarks.

Imports `config`, `data` and below.
"""
