"""The pure part of training: learner, step, state, optimizer, sharding, augmentation.

Imports jax, flax, optax, `models` and `objectives`; reads no files and prints nothing.
"""
