"""Weights of other projects: files read array by array, and files written for others.

Imports `errors`, `storage`, numpy and safetensors; never torch. No file is run.
"""
