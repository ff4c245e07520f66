"""Data of evaluators: labels and captions, prompts, text files, benchmarks.

Imports `config`, `data` and below.
"""
