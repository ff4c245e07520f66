"""Several processes of one run: how they start, agree, stop and end together.

Commands use it before jax starts. Imports jax and `errors` alone.
"""
